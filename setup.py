"""What pyproject.toml cannot say: where the bundled data lie, and a README whose links work outside the repository."""

import re
from pathlib import Path

from setuptools import find_namespace_packages, find_packages, setup

REPOSITORY = "https://github.com/TumorQuery/SlicerTumorQuery"
PICTURES = "https://raw.githubusercontent.com/TumorQuery/SlicerTumorQuery/main"

readme = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
readme = re.sub(r"(!\[[^\]]*\]\()(?!https?:|#)", rf"\g<1>{PICTURES}/", readme)
readme = re.sub(r"((?<!!)\[[^\]]*\]\()(?!https?:|#)", rf"\g<1>{REPOSITORY}/blob/main/", readme)

bundled = [
    f"TumorQueryLib.{name}"
    for name in find_namespace_packages(include=["Resources", "Resources.*"], exclude=["Resources.Screenshots"])
]
setup(
    long_description=readme,
    long_description_content_type="text/markdown",
    packages=find_packages(include=["TumorQueryLib", "TumorQueryLib.*"]) + bundled,
    package_dir={"TumorQueryLib.Resources": "Resources"},
    package_data={"TumorQueryLib": ["py.typed"]} | {name: ["*"] for name in bundled},
)
