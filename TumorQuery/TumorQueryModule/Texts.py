"""What the panel says of a result, and of what went wrong."""

import re

from slicer.i18n import tr as _

from TumorQueryModule import Dependencies
from TumorQueryModule.Choices import Foci, Refinement
from TumorQueryModule.ResultNodes import ResultNodes, estimateOf, fociOf, predictedVolumes


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
    lines += [
        _("Beyond the visible edge the density falls to about a third over {length:.1f} mm of white matter.").format(
            length=focus["infiltration_length_patient_mm"]
        )
        for focus in fociOf(content, shown)
    ]
    if content["brain"]["source"] == "extracted" and result.brain is not None:
        lines.append(
            _("The brain was extracted. Where it is wrong, correct {name}, and choose it as the brain mask.").format(
                name=result.brain.GetName()
            )
        )
    lines += [_("Note: {text}").format(text=inWordsOfThePanel(text)) for text in content["warnings"]]
    return "<br>".join(lines)


def agreementOf(result: ResultNodes) -> str:
    """A sentence on how well the shown outlines agree with the segmentation.

    Estimates were compared with it on the T1Gd image, matches after the best in the atlas only.
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
    return {"refined": _("Refined from the best matches")}.get(shown, shown)


def inWordsOfThePanel(sentence: str) -> str:
    """A sentence of the library, which speaks of options of its command line, with the panel's own names for them."""
    build = _("'Build database' and the same file")
    words = [
        (
            r"(build it( again,)?|continue( it)?) with --resume( to continue)?",
            _("continue with {build}").format(build=build),
        ),
        (
            r"(name|give) (its folder|the folder of that atlas|it) with --atlas(, or)?",
            _("choose another database") + r"\3",
        ),
        (r"train one[^`]*with `tumorquery train[^`]*`", _("choose another query strategy")),
        (r",? and run `tumorquery embed[^`]*` again", ""),
        (r"`tumorquery train[^`]*`", f"'{_('Query strategy')}'"),
        (r"with labels \(--labels\)", _("under 'Labels mean'")),
        (
            r"refine it \(--refine patient\)",
            _("refine it ({choice} under {name})").format(
                choice=f"'{Refinement.Patient.label()}'", name=f"'{_('Refinement')}'"
            ),
        ),
        (
            r"try two \(--foci 2\)",
            _("try two ({choice} under {name})").format(choice=f"'{Foci.Two.label()}'", name=f"'{_('Foci')}'"),
        ),
        (r"--labels\b", f"'{_('Labels mean')}'"),
        (
            r"look at brain\.nrrd, and give a corrected one as the brain mask \(--brain-mask\)",
            _("look at the segmentation of the brain, correct it, and choose it under {name}").format(
                name=f"'{_('Brain mask')}'"
            ),
        ),
        (r"--brain-mask\b", f"'{_('Brain mask')}'"),
        (r"--registration\b", f"'{_('Registration')}'"),
        (r"--refine\b", f"'{_('Refinement')}'"),
        (r"--foci\b", f"'{_('Foci')}'"),
        (r"--strategy\b", f"'{_('Query strategy')}'"),
        (r"--database\b", f"'{_('Database file')}'"),
        (r"--top\b", f"'{_('Ranked matches')}'"),
        (
            r"; --no-align leaves all as it is",
            _("; without {name} under Advanced all stays as it is").format(name=f"'{_('Align the images')}'"),
        ),
        (r"--segmentation-on\b", f"'{_('Segmentation drawn on')}'"),
        (r"--(no-)?align\b", f"'{_('Align the images')}'"),
        (r"--(core|whole)\b", f"'{_('Segmentation')}'"),
        (r"--(t1gd|flair|t1|segmentation)\b", f"'{_('Inputs')}'"),
        (r"--resume\b", build),
        (r"--atlas\b", f"'{_('Database file')}'"),
    ]
    for pattern, replacement in words:
        sentence = re.sub(pattern, replacement, sentence)
    return sentence
