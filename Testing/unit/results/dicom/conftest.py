import pytest
from exported_case import PATIENT, SERIES, write_case

from TumorQueryLib.results.dicom.source import read_source_series


@pytest.fixture(scope="session")
def cases(tmp_path_factory):
    return {name: write_case(name, tmp_path_factory.mktemp("series") / "S1", **PATIENT) for name in SERIES}


@pytest.fixture(params=sorted(SERIES))
def case(request, cases):
    return cases[request.param]


@pytest.fixture
def source(case):
    return read_source_series(case.folder)
