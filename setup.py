"""What pyproject.toml cannot say: the bundled data lie in the folder Resources and go into the package."""

from setuptools import find_namespace_packages, find_packages, setup

bundled = [
    f"TumorQueryLib.{name}"
    for name in find_namespace_packages(include=["Resources", "Resources.*"], exclude=["Resources.Screenshots"])
]
setup(
    packages=find_packages(include=["TumorQueryLib", "TumorQueryLib.*"]) + bundled,
    package_dir={"TumorQueryLib.Resources": "Resources"},
    package_data={"TumorQueryLib": ["py.typed"]} | {name: ["*"] for name in bundled},
)
