"""Python packages that the worker needs: what is missing, and their installation with the user's consent."""

import importlib.metadata
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

#: Packages that come with Slicer and must stay as they are: other versions break Slicer itself.
BUNDLED_PACKAGES = ("numpy", "scipy", "SimpleITK", "pydicom", "pillow", "requests", "vtk", "packaging")

#: What the strategies that need torch need beside it.
LEARNED_REQUIREMENTS = ("safetensors>=0.4",)
TORCH_REQUIREMENT = ">=2.2"

#: What the export to DICOM needs.
EXPORT_REQUIREMENTS = ("highdicom>=0.28",)


class DependencyError(RuntimeError):
    """Packages are missing and were not installed; the text says what to do.

    :param isKnown: whether the user knows it already: declined, or has seen a box.
    """

    def __init__(self, message: str, isKnown: bool = False) -> None:
        super().__init__(message)
        self.isKnown = isKnown


def parentOfLibrary() -> Path:
    """The folder that holds TumorQueryLib: beside the installed module, in the checkout, or where pip put it.

    :raises DependencyError: when it is nowhere.
    """
    module = Path(__file__).resolve().parent.parent
    for folder in (module, module.parent):
        if (folder / "TumorQueryLib" / "__init__.py").is_file():
            return folder
    found = importlib.util.find_spec("TumorQueryLib")
    if found is None or found.origin is None:
        raise DependencyError(
            _("TumorQueryLib was not found beside the module. Install the TumorQuery extension again.")
        )
    return Path(found.origin).parent.parent


def importLibrary() -> None:
    """Make TumorQueryLib importable in Slicer's own interpreter."""
    if importlib.util.find_spec("TumorQueryLib") is None:
        sys.path.append(str(parentOfLibrary()))


def resourcesFolder() -> Path:
    """The folder of the bundled data."""
    importLibrary()
    from TumorQueryLib.base.resources import resources_folder

    return resources_folder()


def packagesOf(strategy: str) -> tuple[str, ...]:
    """The optional packages that a query strategy cannot do without, by the library's own table."""
    importLibrary()
    from TumorQueryLib.strategies.base import strategy_info

    return strategy_info(strategy).packages


def missingRequirements(requirementsFile: str) -> list[Any]:
    """The requirements of a file that are not satisfied."""
    import slicer.packaging

    return [one for one in slicer.packaging.load_requirements(requirementsFile) if not slicer.packaging.pip_check(one)]


def canAsk() -> bool:
    """Whether somebody sees a box and can answer it: not without a window, and not in a test of Slicer's."""
    return slicer.util.mainWindow() is not None and not slicer.app.testingEnabled()


def installCommand(requirements: Iterable[str]) -> str:
    """What to type into a terminal to install packages into Slicer's Python."""
    return " ".join(["PythonSlicer -m pip install", *(f'"{requirement}"' for requirement in requirements)])


def howToInstall(package: str) -> str:
    """What makes an optional package available in Slicer, as a command or the name of an extension."""
    if package == "torch":
        return _("with the PyTorch extension")
    requirements = (*LEARNED_REQUIREMENTS, *EXPORT_REQUIREMENTS)
    return installCommand([one for one in requirements if one.startswith(f"{package}>=")] or [package])


def ensureRequirements(requirementsFile: str, strategy: str, more: tuple[str, ...] = ()) -> None:
    """Install what is missing for a run; the user is asked first. Where nobody can be asked nothing is installed.

    :param requirementsFile: Resources/requirements.txt of the module.
    :param strategy: name of the query strategy; some need more than others.
    :param more: what this run needs beside, as `EXPORT_REQUIREMENTS`.
    :raises DependencyError: when a package is missing afterwards; the text says why and what to do.
    """
    import slicer.packaging

    requirements = [str(requirement) for requirement in slicer.packaging.load_requirements(requirementsFile)]
    if "torch" in packagesOf(strategy):
        ensureTorch()
        requirements += LEARNED_REQUIREMENTS
    requirements += more
    missing = [requirement for requirement in requirements if not slicer.packaging.pip_check(requirement)]
    if not missing:
        return
    command = installCommand(missing)
    if not canAsk():
        raise DependencyError(
            _(
                "Python packages are missing, and without a window nobody can be asked: install them with {command}"
            ).format(command=command)
        )
    if not slicer.util.confirmOkCancelDisplay(
        _("TumorQuery needs these Python packages: {packages}. Install them into Slicer's Python now?").format(
            packages=", ".join(missing)
        ),
        windowTitle=_("TumorQuery"),
    ):
        raise DependencyError(_("Nothing was installed, and without these packages nothing can run."), isKnown=True)
    with tempfile.TemporaryDirectory(prefix="TumorQuery-") as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("".join(f"{line}\n" for line in bundledVersions()), encoding="utf-8")
        try:
            slicer.packaging.pip_ensure(missing, constraints=constraints, prompt_install=False, requester="TumorQuery")
        except subprocess.CalledProcessError as error:
            raise DependencyError(
                _(
                    "The Python packages could not be installed. Without internet access, or behind a firewall, "
                    "download their wheels on another computer and install them with "
                    "PythonSlicer -m pip install --no-index --find-links FOLDER {packages}"
                ).format(packages=" ".join(missing)),
                isKnown=True,  # Slicer has shown a box with pip's log
            ) from error
        except RuntimeError as error:
            raise DependencyError(
                _("The Python packages could not be installed ({reason}). Try it in a terminal: {command}").format(
                    reason=error, command=command
                )
            ) from error
    missing = [requirement for requirement in missing if not slicer.packaging.pip_check(requirement)]
    if missing:
        raise DependencyError(
            _(
                "These Python packages are still missing: {packages}. Restart Slicer, or install them with {command}"
            ).format(packages=", ".join(missing), command=installCommand(missing))
        )


def bundledVersions() -> list[str]:
    """Constraints for pip that keep the packages of Slicer at their versions."""
    lines = []
    for name in BUNDLED_PACKAGES:
        try:
            lines.append(f"{name}=={importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return lines


def ensureTorch() -> None:
    """Have the PyTorch extension install torch as it suits the computer.

    :raises DependencyError: when the extension or torch is not there.
    """
    if importlib.util.find_spec("torch") is not None:
        return
    if not canAsk():
        raise DependencyError(
            _("PyTorch is missing, and without a window nobody can be asked: install it with {command}").format(
                command=installCommand([f"torch{TORCH_REQUIREMENT}"])
            )
        )
    try:
        import PyTorchUtils
    except ImportError as error:
        raise DependencyError(
            _(
                "The learned strategies need the PyTorch extension. Install it in the Extensions Manager and "
                "restart Slicer, or choose the direct query."
            )
        ) from error
    logic = PyTorchUtils.PyTorchUtilsLogic()
    if logic.installTorch(askConfirmation=True, torchVersionRequirement=TORCH_REQUIREMENT) is None:
        raise DependencyError(_("PyTorch was not installed. Choose the direct query, which needs none."), isKnown=True)
