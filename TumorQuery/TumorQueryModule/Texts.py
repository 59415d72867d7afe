"""What the panel says of a result."""

from slicer.i18n import tr as _

from TumorQueryModule.ResultNodes import REFINED, ResultNodes, candidate, predictedVolumes


def summaryOf(result: ResultNodes) -> str:
    """The shown match in a few lines: how well it fits, what it says, and warnings."""
    content = result.content
    shown = candidate(content, result.rank)
    observed = content["patient_space"]["volumes_ml"]["observed"]
    predicted = predictedVolumes(result)
    fit = []
    if shown["parameters"]["frame"] == "atlas":
        fit.append(
            _("Dice in the atlas: T1Gd {t1gd:.2f}, FLAIR {flair:.2f}").format(
                t1gd=shown["dice_t1gd"], flair=shown["dice_flair"]
            )
        )
    if result.row == 0:  # the worker compares what it gives with the segmentation in the patient's space too
        fit.append(
            _("Dice in the patient: core {core:.2f}, whole tumor {whole:.2f}").format(
                core=content["patient_space"]["dice_core"], whole=content["patient_space"]["dice_whole"]
            )
        )
    title = _("Refined from the best matches")
    if result.rank != REFINED:
        title = _("Match {rank} of {count}").format(rank=result.rank + 1, count=len(content["matches"]))
    lines = [
        f"<b>{title}</b>",
        *fit,
        _("Core {core:.0f} ml (segmented {seen:.0f} ml)").format(core=predicted["core"], seen=observed["core"]),
        _("Whole tumor {whole:.0f} ml (segmented {seen:.0f} ml)").format(
            whole=predicted["whole"], seen=observed["whole"]
        ),
        _("Infiltration length {length:.1f} mm, proliferation times time {rhoT:.0f}").format(
            length=shown["parameters"]["infiltration_length_patient_mm"], rhoT=shown["parameters"]["rho_t"]
        ),
    ]
    lines += [_("Note: {text}").format(text=text) for text in content["warnings"]]
    return "<br>".join(lines)
