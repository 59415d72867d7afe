"""What the paper states, to stand beside what is measured here."""

from __future__ import annotations

#: The paper's Table 1 (62 real cases, 50,000 entries), in per cent and seconds.
PAPER_TABLE_1 = {
    "direct": (100.0, 100.0, 100.0, 340.0),
    "ds64": (88.7, 100.0, 100.0, 130.0),
    "ds32": (66.1, 96.7, 100.0, 116.0),
    "vae": (41.9, 61.2, 80.6, 34.0),
    "ae": (33.8, 64.5, 77.4, 22.0),
    "bihash": (32.2, 67.7, 82.2, 22.0),
    "radiomics": (4.92, 4.92, 9.83, 2.8),
}
#: The paper's Table 2, synthetic part (1,000 cases), in per cent; its real part is that of Table 1.
PAPER_TABLE_2 = {"direct": (100.0, 100.0, 100.0), "ds64": (93.5, 100.0, 100.0), "ds32": (78.9, 99.6, 100.0)}
#: The paper's mean of the best Dice sums (caption of Table 2).
PAPER_DICE_SUM = {"real": 1.07, "synthetic": 1.69}
