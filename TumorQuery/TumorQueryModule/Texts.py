"""What the panel says of a result, and of what went wrong."""

import html
import re
from dataclasses import replace
from typing import Any

import slicer
from slicer.i18n import tr as _

from TumorQueryModule import Dependencies
from TumorQueryModule.Choices import Foci, Overlaid, Refinement
from TumorQueryModule.ResultNodes import ASSIMILATED, ResultNodes, estimateOf, fociOf, predictedVolumes, uncertaintyOf


def summaryOf(result: ResultNodes) -> str:
    """What is shown, in a few lines: how well it fits, what it says, and warnings."""
    content, shown = result.content, result.shown
    observed = result.chosen["fit"]["observed_ml"]
    predicted = predictedVolumes(result)
    lines = [f"<b>{titleOf(shown, len(content['query']['matches']))}</b>", agreementOf(result)]
    lines += [
        _("Core {core:.0f} ml (segmented {seen:.0f} ml)").format(core=predicted["core"], seen=observed["core"]),
        _("Whole tumor {whole:.0f} ml (segmented {seen:.0f} ml)").format(
            whole=predicted["whole"], seen=observed["whole"]
        ),
    ]
    uncertainty = uncertaintyOf(content, shown)
    intervals = [None] * len(fociOf(content, shown)) if uncertainty is None else uncertainty["foci"]
    lines += [lengthOf(focus, interval) for focus, interval in zip(fociOf(content, shown), intervals, strict=True)]
    if uncertainty is not None:
        lines += boundsOf(uncertainty)
    if content.get("sensitivity"):
        lines.append(
            _("The last rows of the table give the length under other assumptions about the tissue; no image decides.")
        )
    if content["brain"]["source"] == "extracted" and result.brain is not None:
        lines.append(
            _("The brain was extracted. Where it is wrong, correct {name}, and choose it as the brain mask.").format(
                name=asRichText(result.brain.GetName())
            )
        )
    lines += [_("Note: {text}").format(text=asRichText(inWordsOfThePanel(text))) for text in content["warnings"]]
    return "<br>".join(lines)


def lengthOf(focus: dict[str, Any], interval: dict[str, Any] | None) -> str:
    """A sentence on how far a tumor infiltrates, with the interval of it where that is known."""
    length = focus["infiltration_length_patient_mm"]
    if interval is None:
        return _(
            "Beyond the visible edge the density falls to about a third over {length:.1f} mm of white matter."
        ).format(length=length)
    bounds = interval["infiltration_length_patient_mm"]
    return _(
        "Beyond the visible edge the density falls to about a third over {length:.1f} mm of white matter, "
        "90 % between {low:.1f} and {high:.1f} mm."
    ).format(length=length, low=bounds["p05"], high=bounds["p95"])


def boundsOf(uncertainty: dict[str, Any]) -> list[str]:
    """Sentences on how large the region above the level may be, and on what no interval covers."""
    volume = uncertainty["volume_above_level_ml"]
    return [
        _("Density above {level:g}: {volume:.0f} ml, 90 % between {low:.0f} and {high:.0f} ml").format(
            level=uncertainty["level"], volume=volume["density"], low=volume["p05"], high=volume["p95"]
        ),
        _(
            "These ranges hold as far as the growth model does: one image does not tell how fast the cells move, and "
            "that gray matter slows them tenfold is assumed."
        ),
    ]


def aboutOverlaid(overlaid: Overlaid, level: float) -> str:
    """What a map that lies over the image says; empty for the density itself."""
    return {
        Overlaid.Density: "",
        Overlaid.Deviation: _("By how much the assimilated density may be off: one standard deviation."),
        Overlaid.Lower: _("In each voxel the density is more than this with a probability of 95 %."),
        Overlaid.Upper: _("In each voxel the density is less than this with a probability of 95 %."),
        Overlaid.Probability: _("How probable a density of more than {level:g} is in each voxel.").format(level=level),
    }[overlaid]


def agreementOf(result: ResultNodes) -> str:
    """A sentence on how well the shown outlines agree with the segmentation.

    Estimates were compared with it on the T1Gd image, matches after the best in the atlas only. Of the assimilated
    density, which agrees by construction, the sentence is on what it was made from.
    """
    Dependencies.importLibrary()
    from TumorQueryLib.estimates.fit import Fit

    content, shown = result.content, result.shown
    estimate = estimateOf(content, shown)
    compared = estimate["fit"] if estimate else content["query"]["matches"][shown]
    fit = Fit.from_json(
        {**result.chosen["fit"], "dice_core": compared["dice_core"], "dice_whole": compared["dice_whole"]}
    )
    sentence = {
        "well": _("The modeled outlines agree well with the segmentation"),
        "fairly": _("The modeled outlines agree fairly with the segmentation"),
        "poorly": _("The modeled outlines agree poorly with the segmentation"),
    }[fit.quality]
    if shown == ASSIMILATED:
        sentence += _(" before the correction")
    if not estimate:
        sentence += _(", compared in the atlas")
    if fit.observed_ml[0] > 0:
        return sentence + _(": overlap (Dice) {core:.2f} of the core, {whole:.2f} of the whole tumor.").format(
            core=fit.dice_core, whole=fit.dice_whole
        )
    return sentence + _(": overlap (Dice) {whole:.2f} of the whole tumor; no core is segmented.").format(
        whole=fit.dice_whole
    )


def titleOf(shown: str | int, count: int) -> str:
    """A title of what is shown.

    :param shown: the name of an estimate, or the rank of a match, counted from 0.
    :param count: how many matches there are.
    """
    if isinstance(shown, int):
        return _("Match {rank} of {count}").format(rank=shown + 1, count=count)
    titles = {
        "refined": _("Refined from the best matches"),
        ASSIMILATED: _("Assimilated: corrected to agree with the segmentation"),
    }
    return titles.get(shown, shown)


def diagnosis() -> str:
    """What `tumorquery doctor` says of the installation, of Slicer's Python, with Slicer's version before it."""
    Dependencies.importLibrary()
    from TumorQueryLib.doctor import Finding, as_text, examine

    findings = [Finding(slicer.app.applicationName, slicer.app.applicationVersion), *examine()]
    return as_text([replace(finding, **inSlicer(finding)) for finding in findings])


def inSlicer(finding: Any) -> dict[str, str | None]:
    """What `tumorquery doctor` says of a package, with what installs that in Slicer.

    :param finding: the library's `Finding`.
    :return: its fields `said` and `remedy`.
    """
    said, remedy = finding.said, finding.remedy
    if finding.topic in Dependencies.BUNDLED_PACKAGES:
        if remedy is not None:
            remedy = _("It comes with Slicer, and another version would break it: update Slicer.")
        return {"said": said, "remedy": remedy}
    if remedy is not None:
        remedy = remedy.replace("python -m pip install", "PythonSlicer -m pip install")
    # The library's extras are on no index as long as it comes with the extension alone.
    extra = r'python -m pip install "tumorquery\[\w+\]"'
    return {"said": re.sub(extra, lambda _found: Dependencies.howToInstall(finding.topic), said), "remedy": remedy}


def asRichText(text: str) -> str:
    """A text with nothing in it that a label takes for markup, such as a "<" between numbers or in a name."""
    return html.escape(text, quote=False)


def inSpellingOfThePanel(sentence: str) -> str:
    """A sentence of the library that names no file, in the spelling of Slicer's texts."""
    for spelled, here in (("modelled", "modeled"), ("grey", "gray"), ("tumour", "tumor"), ("oedema", "edema")):
        sentence = re.sub(spelled, here, sentence)
    return sentence


def quoted(name: str) -> str:
    """A name of the panel as a sentence holds it."""
    return f"'{name}'"


def inWordsOfThePanel(sentence: str) -> str:
    """A sentence of the library, which speaks of options of its command line, with the panel's own names for them."""
    build = _("'Build database' and the same file")
    words: list[tuple[str, Any]] = [
        # The folder that a result of the scene was written into for a job, and goes with it.
        (r"(The result) in .*?TumorQuery-\w+[/\\]result", r"\1"),
        (r"^.*TumorQuery-\w+[/\\]t1gd\.nrrd", _("The T1 image")),
        (
            r"(build it( again,)?|continue( it)?) with --resume( to continue)?",
            _("continue with {build}").format(build=build),
        ),
        (
            r"(name|give) (its folder|the folder of that atlas|it) with --atlas(, or)?",
            _("choose another database") + r"\3",
        ),
        (r"train one[^`]*with `tumorquery train[^`]*`", _("choose another query strategy")),
        (r"make them with `tumorquery plan`", _("click {make}").format(make=quoted(_("Make plans")))),
        (r",? and run `tumorquery embed[^`]*` again", ""),
        (
            r"""(the package )(\w+): pip install ['"]tumorquery\[\w+\]['"](; in 3D Slicer, slicer\.util\.[^)]*\))?""",
            lambda found: f"{found[1]}{found[2]}: {Dependencies.howToInstall(found[2])}",
        ),
        (r"`tumorquery train[^`]*`", quoted(_("Query strategy"))),
        (r"with labels \(--labels\)", _("under 'Labels mean'")),
        (
            r"refine it \(--refine patient\)",
            _("refine it ({choice} under {name})").format(
                choice=quoted(Refinement.Patient.label()), name=quoted(_("Refinement"))
            ),
        ),
        (
            r"try two \(--foci 2\)",
            _("try two ({choice} under {name})").format(choice=quoted(Foci.Two.label()), name=quoted(_("Foci"))),
        ),
        (r"give the folder of the T1Gd's series \(--dicom SERIES\)", _("load the T1 image from DICOM")),
        (r"--labels\b", quoted(_("Labels mean"))),
        (
            r"look at brain\.nrrd, and give a corrected one as the brain mask \(--brain-mask\)",
            _("look at the segmentation of the brain, correct it, and choose it under {name}").format(
                name=quoted(_("Brain mask"))
            ),
        ),
        (r"--brain-mask\b", quoted(_("Brain mask"))),
        (r"--registration\b", quoted(_("Registration"))),
        (
            r"The growth model does not describe this tumour: on the segmented outlines it is off by [^)]*\), so its "
            "infiltration length and its density away from the outlines say little",
            _(
                "The growth model does not describe this tumor: its outlines lie far from the segmented ones, so the "
                "density away from these says little"
            ),
        ),
        (r"--refine\b", quoted(_("Refinement"))),
        (r"--density\b", quoted(_("Density"))),
        (r"--tissue-maps\b", quoted(_("White matter map"))),
        (r"--tissue\b", quoted(_("Tissue"))),
        (r"--sensitivity\b", quoted(_("Sensitivity"))),
        (r"--uncertainty\b", quoted(_("Uncertainty"))),
        (r"--level\b", quoted(_("Level"))),
        (r"--foci\b", quoted(_("Foci"))),
        (r"--strategy\b", quoted(_("Query strategy"))),
        (r"--database\b", quoted(_("Database file"))),
        (r"--top\b", quoted(_("Ranked matches"))),
        (
            r"; --no-align leaves all as it is",
            _("; without {name} under Advanced all stays as it is").format(name=quoted(_("Align the images"))),
        ),
        (r"--segmentation-on\b", quoted(_("Segmentation drawn on"))),
        (r"--(no-)?align\b", quoted(_("Align the images"))),
        (r"--(core|whole)\b", quoted(_("Segmentation"))),
        (r"--(t1gd|flair|t1|segmentation)\b", quoted(_("Inputs"))),
        (r"--resume\b", build),
        (r"--atlas\b", quoted(_("Database file"))),
    ]
    for pattern, replacement in words:
        sentence = re.sub(pattern, replacement, sentence)
    return sentence
