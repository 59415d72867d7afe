"""What the panel says of a result."""

from slicer.i18n import tr as _

from TumorQueryModule.ResultNodes import ResultNodes, estimateOf, fociOf, predictedVolumes


def summaryOf(result: ResultNodes) -> str:
    """What is shown in a few lines: how well it fits, what it says, and warnings."""
    content, shown = result.content, result.shown
    estimate, matches = estimateOf(content, shown), content["query"]["matches"]
    observed = result.chosen["fit"]["observed_ml"]
    predicted = predictedVolumes(result)
    lines = [f"<b>{titleOf(shown, len(matches))}</b>"]
    if isinstance(shown, int):
        lines.append(
            _("Dice in the atlas: core {core:.2f}, whole tumor {whole:.2f}").format(
                core=matches[shown]["dice_core"], whole=matches[shown]["dice_whole"]
            )
        )
    if estimate:  # the worker compares estimates with the segmentation in the patient's space too
        lines.append(
            _("Dice in the patient: core {core:.2f}, whole tumor {whole:.2f}").format(
                core=estimate["fit"]["dice_core"], whole=estimate["fit"]["dice_whole"]
            )
        )
    lines += [
        _("Core {core:.0f} ml (segmented {seen:.0f} ml)").format(core=predicted["core"], seen=observed["core"]),
        _("Whole tumor {whole:.0f} ml (segmented {seen:.0f} ml)").format(
            whole=predicted["whole"], seen=observed["whole"]
        ),
    ]
    lines += [
        _("Infiltration length {length:.1f} mm, proliferation times time {rhoT:.0f}").format(
            length=focus["infiltration_length_patient_mm"], rhoT=focus["rho_t"]
        )
        for focus in fociOf(content, shown)
    ]
    lines += [_("Note: {text}").format(text=text) for text in content["warnings"]]
    return "<br>".join(lines)


def titleOf(shown: str | int, count: int) -> str:
    """A title of what is shown.

    :param shown: the name of an estimate, or the rank of a match, counted from 0.
    :param count: how many matches there are.
    """
    if isinstance(shown, int):
        return _("Match {rank} of {count}").format(rank=shown + 1, count=count)
    return {"refined": _("Refined from the best matches")}.get(shown, shown)
