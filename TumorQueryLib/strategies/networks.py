"""The networks of the learned strategies (paper, sections 2.3 and 2.4); needs PyTorch.

One network for each region. The encoder halves the volume in stages, each a
strided convolution of kernel 3 and a convolution without stride; a linear layer
gives the latent code of 1,024; the decoder mirrors it with transposed
convolutions. `Architecture.of_the_paper` has the paper's three stages to 16^3;
`Architecture.pooled` is the default: masks averaged over 4^3 voxels, one stage,
which retrieves as well and trains in minutes on a processor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.strategies.base import learned_strategies

#: Weight of the binary cross-entropy's mean beside the soft Dice loss; the mean over a
#: mostly empty volume is small, the weight brings both to the same order.
CROSS_ENTROPY_WEIGHT = 100.0
#: Weight of the Kullback-Leibler term, summed over the latent units.
KL_WEIGHT = 1e-4
#: gamma of Li and van Gemert (AAAI 2021): the pull of the continuous code to its binary one.
BI_HALF_GAMMA = 6.0


#: Of an architecture's numbers, the least and the largest of each.
_RANGES = (
    ("pooling", 1, 64),
    ("start", -4096, 4096),
    ("shape", 1, 1024),
    ("channels", 1, 1024),
    ("bottleneck_channels", 1, 1024),
    ("latent", 1, 65536),
    ("rank", 1, 65536),
)
MOST_STAGES = 6


@dataclass(frozen=True)
class Architecture:
    """The shape of a network.

    Parameters
    ----------
    kind : {"ae", "vae", "bihash"}
    pooling : int
        Edge in voxels of the cubes over which masks are averaged before the network.
    start, shape : tuple of int
        The box of pooled cells that the network sees; `shape` is divisible by
        2^len(channels).
    channels : tuple of int
        Channels of each stage; each stage halves the volume.
    bottleneck_channels : int
        Channels that are flattened after the last stage.
    latent : int
        Size of the latent code.
    rank : int or None
        Where given, the linear layers beside the latent code go through so many
        units (flat -> rank -> latent), which makes the network seven times smaller.
    """

    kind: str
    pooling: int
    start: tuple[int, int, int]
    shape: tuple[int, int, int]
    channels: tuple[int, ...] = (16,)
    bottleneck_channels: int = 2
    latent: int = 1024
    rank: int | None = 128

    def __post_init__(self) -> None:
        for name, least, most in _RANGES:
            value = getattr(self, name)
            numbers = value if isinstance(value, list | tuple) else [value]
            several = name in ("start", "shape", "channels")
            if name == "rank" and value is None:
                continue
            if several != isinstance(value, list | tuple) or not all(
                isinstance(n, int | np.integer) and not isinstance(n, bool) and least <= n <= most for n in numbers
            ):
                whole = "whole numbers" if several else "a whole number"
                raise InputError(f"A network's {name} is {whole} from {least} to {most}, not {value!r}.")
            object.__setattr__(self, name, tuple(map(int, numbers)) if several else int(value))
        if self.kind not in learned_strategies():
            raise InputError(f"There is no network kind {self.kind!r}; there are {', '.join(learned_strategies())}.")
        step = 2 ** len(self.channels)
        if len(self.start) != 3 or not 1 <= len(self.channels) <= MOST_STAGES:
            raise InputError(
                f"A network has 3 first cells and 1 to {MOST_STAGES} stages, not {self.start} and {self.channels}."
            )
        if len(self.shape) != 3 or min(self.shape) < step or any(n % step for n in self.shape):
            raise InputError(
                f"A network's input must be divisible by {step} along each axis, this one is {self.shape}."
            )

    @classmethod
    def pooled(cls, kind: str, start: Sequence[int], shape: Sequence[int], **changes: Any) -> Architecture:
        """The default: masks averaged over 4^3 voxels, one stage."""
        return cls(**{"kind": kind, "pooling": 4, "start": tuple(start), "shape": tuple(shape), **changes})

    @classmethod
    def of_the_paper(cls, kind: str, grid_shape: Sequence[int], **changes: Any) -> Architecture:
        """Three stages from the full grid, full-rank linear layers (section 2.4).

        The paper states neither the numbers of channels nor whether the volume was
        cropped; 4, 8, 16 on the whole grid are this software's.
        """
        settings: dict[str, Any] = {
            "kind": kind,
            "pooling": 1,
            "start": (0, 0, 0),
            "shape": tuple(grid_shape),
            "channels": (4, 8, 16),
            "bottleneck_channels": 16,
            "rank": None,
        }
        return cls(**{**settings, **changes})

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; `Architecture(**d)` gives the architecture back."""
        return asdict(self)


class Encoder(nn.Module):
    """Pooled masks (batch, 1, *shape) in [0, 1] to codes (batch, latent).

    For a VAE the codes are the means; `encode_distribution` also gives the logarithm
    of the variance.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for stage, channels in enumerate(architecture.channels):
            last = stage == len(architecture.channels) - 1
            after = architecture.bottleneck_channels if last else channels
            layers += [
                nn.Conv3d(before, channels, 3, stride=2, padding=1),
                nn.LeakyReLU(0.1),
                nn.Conv3d(channels, after, 3, padding=1),
                nn.LeakyReLU(0.1),
            ]
            before = after
        self.convolutions = nn.Sequential(*layers)
        flat = before * math.prod(n // 2 ** len(architecture.channels) for n in architecture.shape)
        self.to_code = _linear(flat, architecture.latent, architecture.rank)
        self.to_log_variance = (
            _linear(flat, architecture.latent, architecture.rank) if architecture.kind == "vae" else None
        )

    def forward(self, masks: torch.Tensor) -> torch.Tensor:
        """Codes of pooled masks; a VAE's means."""
        return self.to_code(self.convolutions(masks).flatten(1))

    def encode_distribution(self, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Means and logarithms of the variances, both (batch, latent); VAE only."""
        assert self.to_log_variance is not None
        flat = self.convolutions(masks).flatten(1)
        return self.to_code(flat), self.to_log_variance(flat).clamp(-8, 4)


class Decoder(nn.Module):
    """Codes (batch, latent) to logits of the masks (batch, 1, *shape); the encoder mirrored."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        small = [n // 2 ** len(architecture.channels) for n in architecture.shape]
        flat = architecture.bottleneck_channels * math.prod(small)
        layers: list[nn.Module] = [
            _linear(architecture.latent, flat, architecture.rank),
            nn.Unflatten(1, (architecture.bottleneck_channels, *small)),
        ]
        before = architecture.bottleneck_channels
        for stage in reversed(range(len(architecture.channels))):
            channels = architecture.channels[stage]
            after = architecture.channels[stage - 1] if stage else 1
            layers += [
                nn.Conv3d(before, channels, 3, padding=1),
                nn.LeakyReLU(0.1),
                nn.ConvTranspose3d(channels, after, 3, stride=2, padding=1, output_padding=1),
                nn.LeakyReLU(0.1),
            ]
            before = after
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Logits of the masks that the codes stand for."""
        return self.layers(codes)


class BiHalf(torch.autograd.Function):
    """The Bi-half layer: of each unit over the batch, the upper half is +1, the rest -1.

    That maximises each bit's entropy. Backward, the gradient goes straight through,
    plus gamma (U - B) / numel, which pulls the continuous code U to the binary B.
    Source: Li and van Gemert, Deep unsupervised image hashing by maximizing bit
    entropy, AAAI 2021, section 3.
    """

    @staticmethod
    def forward(ctx: Any, continuous: torch.Tensor, gamma: float) -> torch.Tensor:
        """Codes U (batch, bits) to B in {-1, +1}, of the same shape."""
        order = continuous.argsort(dim=0, descending=True, stable=True)
        signs = torch.full_like(continuous, -1.0)
        signs[: (len(continuous) + 1) // 2] = 1.0
        binary = torch.empty_like(continuous).scatter_(0, order, signs)
        ctx.save_for_backward(continuous, binary)
        ctx.gamma = gamma
        return binary

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Straight-through gradient with the pull to the binary code."""
        continuous, binary = ctx.saved_tensors
        return gradients[0] + ctx.gamma * (continuous - binary) / continuous.numel(), None


class Autoencoder(nn.Module):
    """Encoder and decoder of one region, with the loss of its kind."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.encoder = Encoder(architecture)
        self.decoder = Decoder(architecture)
        for layer in self.modules():
            # He initialisation: with PyTorch's own the deeper networks stay on a plateau.
            if isinstance(layer, (nn.Conv3d, nn.ConvTranspose3d, nn.Linear)):
                nn.init.kaiming_normal_(layer.weight, a=0.1)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
        if self.encoder.to_log_variance is not None:
            # Little noise at first, else the decoder learns nothing from the code.
            for layer in self.encoder.to_log_variance.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, std=0.01)
        output = self.decoder.layers[-1]
        assert isinstance(output, nn.ConvTranspose3d)
        assert output.bias is not None
        with torch.no_grad():
            # Most of a volume is empty: start from there.
            output.weight.mul_(0.1)
            output.bias.fill_(-3.0)

    def loss(self, masks: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """The training loss of a batch, a scalar.

        Parameters
        ----------
        masks : Tensor of float32, shape (batch, 1, *shape)
            Share of each pooled cell that the mask fills, in [0, 1].
        generator : torch.Generator, optional
            Source of the VAE's noise; without it the mean is decoded.
        """
        kind = self.architecture.kind
        penalty = torch.zeros((), device=masks.device)
        if kind == "vae":
            mean, log_variance = self.encoder.encode_distribution(masks)
            codes = mean
            if generator is not None:
                noise = torch.randn(mean.shape, generator=generator, device=mean.device)
                codes = mean + noise * (0.5 * log_variance).exp()
            divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(dim=1)
            penalty = KL_WEIGHT * divergence.mean()
        else:
            codes = self.encoder(masks)
            if kind == "bihash":
                codes = BiHalf.apply(codes, BI_HALF_GAMMA)
        return reconstruction_loss(self.decoder(codes), masks) + penalty


def reconstruction_loss(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """100 times the mean binary cross-entropy plus 1 - soft Dice, the mean over a batch."""
    cross_entropy = nn.functional.binary_cross_entropy_with_logits(logits, masks)
    share, masks = logits.sigmoid().flatten(1), masks.flatten(1)
    dice = (2 * (share * masks).sum(1) + 1) / ((share**2).sum(1) + (masks**2).sum(1) + 1)
    return CROSS_ENTROPY_WEIGHT * cross_entropy + (1 - dice).mean()


def _linear(inputs: int, outputs: int, rank: int | None) -> nn.Module:
    if rank is None:
        return nn.Linear(inputs, outputs)
    return nn.Sequential(nn.Linear(inputs, rank), nn.Linear(rank, outputs))
