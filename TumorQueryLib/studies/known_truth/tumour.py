"""One tumour on the pipeline's way: each step is done once, when the first study asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from TumorQueryLib.anatomy.anatomy import Anatomy
from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.base.progress import Progress, no_progress
from TumorQueryLib.base.timing import Stopwatch
from TumorQueryLib.estimates.assimilate import assimilate
from TumorQueryLib.estimates.estimate import Estimate
from TumorQueryLib.estimates.matches import estimate_of_match
from TumorQueryLib.estimates.uncertainty import Uncertainty, estimate_uncertainty
from TumorQueryLib.geometry.grid import Volume
from TumorQueryLib.geometry.regions import TumorMasks, dice
from TumorQueryLib.geometry.transforms import SpaceMap
from TumorQueryLib.growth import GrowthParameters
from TumorQueryLib.inference import place_patient, refine_match, register_patient
from TumorQueryLib.inputs.patient import Patient
from TumorQueryLib.studies.known_truth.setting import Conditions, Setting
from TumorQueryLib.studies.phantom import Phantom, grown_phantom, misdrawn

#: The pipeline's answers: the match, its refinement in the atlas and in the patient's anatomy, the latter assimilated.
MODES = ("none", "atlas", "patient", "assimilated")


@dataclass(frozen=True, eq=False)
class Found:
    """An answer of the pipeline.

    Parameters
    ----------
    estimate : Estimate
    model : Estimate
        The one with parameters that it was made of; itself, but for an assimilated one.
    observed : TumorMasks
        The patient's regions on the grid of their anatomy.
    seconds : float
        Wall seconds, those of the steps before it included.
    """

    estimate: Estimate
    model: Estimate
    observed: TumorMasks
    seconds: float


class Way:
    """A patient's way through the pipeline by one map to the atlas.

    Parameters
    ----------
    patient : Patient
        As the pipeline sees it.
    space : SpaceMap
        Between the patient and the database's atlas.
    setting : Setting
    maps : mapping of str to (Atlas, SpaceMap), optional
        Beside "atlas", by name: whose tissue is carried into the patient's anatomy, and by which map.
    seconds : float
        What the map took.
    progress : Progress
        Raises `Cancelled` to stop.
    """

    def __init__(
        self,
        patient: Patient,
        space: SpaceMap,
        setting: Setting,
        *,
        maps: Mapping[str, tuple[Atlas, SpaceMap]] | None = None,
        seconds: float = 0.0,
        progress: Progress = no_progress,
    ) -> None:
        self.patient = patient
        self.space = space
        self.setting = setting
        self.progress = progress
        self._maps = {"atlas": (setting.atlas, space), **(maps or {})}
        self._found: dict[tuple[str, str], Found] = {}
        with Stopwatch() as taken:
            self.query = space.masks_in_atlas(patient.core, patient.whole, setting.atlas.grid)
            matches = setting.engine.query(self.query, setting.method.top)
            self.ranked: tuple[GrowthParameters, ...] = tuple(
                setting.database.parameters(match.entry) for match in matches
            )
            anatomy = Anatomy.of_atlas(setting.atlas, space, patient.whole)
            self.match = estimate_of_match(
                self.ranked[0],
                anatomy,
                self.query,
                patient.regions_on_t1gd,
                setting.thresholds,
                solver_version=setting.database.solver_version,
            )
        self._seconds = seconds + taken.wall
        #: Wall seconds of `uncertainty`, once it was asked for.
        self.uncertainty_seconds = 0.0

    def found(self, mode: str, tissue: str = "atlas") -> Found:
        """What the pipeline answers.

        Parameters
        ----------
        mode : str
            One of `MODES`.
        tissue : str
            What the patient's anatomy is made of: "atlas", "own" (`anatomy.own`), or a name of `maps`.
        """
        if (mode, tissue) not in self._found:
            self._found[mode, tissue] = self._answer(mode, tissue)
        return self._found[mode, tissue]

    @cached_property
    def uncertainty(self) -> Uncertainty:
        """Of the assimilated density of the pipeline; see `uncertainty_seconds`.

        Raises
        ------
        InputError
            When nothing can be told of it.
        """
        found = self.found("assimilated")
        with Stopwatch() as taken:
            uncertainty = estimate_uncertainty(
                found.model, found.estimate, found.observed, self.setting.thresholds, progress=self.progress
            )
        self.uncertainty_seconds = taken.wall
        return uncertainty

    def _answer(self, mode: str, tissue: str) -> Found:
        if mode == "none":
            return Found(self.match, self.match, self.query, self._seconds)
        if mode == "assimilated":
            before = self.found("patient", tissue)
            model = before.estimate
            with Stopwatch() as taken:
                estimate = assimilate(model, self.patient.regions_on_t1gd, before.observed, self.setting.thresholds)
            return Found(estimate, model, before.observed, before.seconds + taken.wall)
        method = replace(self.setting.method, refine=mode, tissue="own" if tissue == "own" else "atlas")
        atlas, space = self._maps["atlas" if tissue == "own" else tissue]
        with Stopwatch() as taken:
            found = refine_match(
                self.patient,
                method,
                self.match,
                self.ranked,
                atlas,
                space,
                self.query,
                self.setting.thresholds,
                progress=self.progress,
            )
        seconds = self._seconds + taken.wall
        if found is None or self.match.or_better(found[1]) is self.match:
            return Found(self.match, self.match, self.query, seconds)
        _, refined, observed = found
        return Found(refined, refined, observed, seconds)


class Tumour:
    """A patient, what is known of the true tumour, and what the pipeline finds.

    Parameters
    ----------
    name : int or str
        Number of a made-up tumour, name of a real patient.
    patient : Patient
        As the pipeline sees it.
    setting : Setting
    phantom : Phantom, optional
        The truth; None for a real patient.
    true_density : Volume, optional
        On the T1Gd image's grid; that of the phantom, where there is one.
    progress : Progress
        Raises `Cancelled` to stop.
    """

    def __init__(
        self,
        name: int | str,
        patient: Patient,
        setting: Setting,
        *,
        phantom: Phantom | None = None,
        true_density: Volume | None = None,
        progress: Progress = no_progress,
    ) -> None:
        self.name = name
        self.patient = patient
        self.setting = setting
        self.phantom = phantom
        self.true_density = true_density if phantom is None else phantom.density
        self.progress = progress

    @classmethod
    def made_up(
        cls,
        number: int,
        parameters: GrowthParameters,
        setting: Setting,
        conditions: Conditions,
        *,
        progress: Progress = no_progress,
    ) -> Tumour:
        """A tumour grown in the setting's anatomy, as a reader draws it."""
        random_seed = conditions.random_seed + number
        phantom = grown_phantom(
            setting.anatomy,
            parameters,
            setting.thresholds,
            random_seed=random_seed,
            mass_effect=conditions.mass_effect,
        )
        patient = phantom.patient
        if conditions.outline_error_mm > 0:
            drawn = misdrawn(patient.regions_on_t1gd, conditions.outline_error_mm, phantom.brain, random_seed)
            core, whole = (Volume(mask, drawn.grid) for mask in (drawn.core, drawn.whole))
            patient = replace(patient, core=core, whole=whole, inputs=(), warnings=())
        return cls(number, patient, setting, phantom=phantom, progress=progress)

    @cached_property
    def way(self) -> Way:
        """The pipeline's own."""
        setting = self.setting
        maps = {}
        with Stopwatch() as taken:
            if self.phantom is None:
                # A real patient may have moved between the images, and have a skull.
                placed = place_patient(self.patient, setting.atlas, setting.method.registration, progress=self.progress)
                patient, space = placed.patient, placed.registration
            else:
                patient = self.patient
                space, _ = register_patient(patient, setting.atlas, setting.method.registration, progress=self.progress)
                maps["true"] = (setting.anatomy, self.phantom.truth)
        return Way(patient, space, setting, maps=maps, seconds=taken.wall, progress=self.progress)

    @cached_property
    def drawn_dice(self) -> tuple[float, float]:
        """Dice of the drawn core and whole tumour to the true ones."""
        if self.phantom is None:
            raise ValueError("The true outlines of a real patient are not known.")
        true, drawn = self.phantom.patient.regions_on_t1gd, self.patient.regions_on_t1gd
        return dice(true.core, drawn.core), dice(true.whole, drawn.whole)
