"""Exact Fréchet distance of two feature sets at any rank; used by FID, FVD and E-FID.

    d^2 = |mu_1 - mu_2|^2 + tr(S_1) + tr(S_2) - 2 tr((S_1 S_2)^(1/2))          (Dowson and Landau, 1982)

With S_i = A_i A_i^T the last trace is the nuclear norm |A_1^T A_2|_*, so no iterative matrix square root is needed. It
keeps full precision for singular covariances, i.e. with fewer samples than dimensions, as is usual for talking heads.

Shapes: N samples, D dimensions, R columns of a root. All tensors are float64.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import scipy.linalg
import torch
from scipy.linalg import lapack
from torch import Tensor

Convention = Literal["pytorch-fid", "stylegan-v", "tfgan"]
CONVENTIONS: tuple[str, ...] = get_args(Convention)

_EPS = torch.finfo(torch.float64).eps
_TFGAN_EPS = 1e-10  # tensorflow_gan takes no square root of singular values below this


class Moments(NamedTuple):
    """Sufficient statistics of a feature set: the samples while N < D, afterwards their sums.

    Attributes:
        folded: () int64 number of samples in ``total`` and ``outer``.
        total: (D,) sum of these samples.
        outer: (D, D) sum of their outer products.
        kept: (K, D) samples that are not in the sums.
    """

    folded: Tensor
    total: Tensor
    outer: Tensor
    kept: Tensor

    @property
    def samples(self) -> int:
        """Number of samples N, folded and kept."""
        return int(self.folded) + len(self.kept)


@dataclass(frozen=True)
class Gaussian:
    """Mean and covariance S, stored as S or as a root A with S = A A^T.

    Attributes:
        mean: (D,) mean.
        covariance: (D, D) covariance, of which only the lower triangle is used; None if ``root`` is given.
        root: (D, R) root; None if ``covariance`` is given.
        noise: Eigenvalues of the covariance up to this value are rounding errors of its sums.
    """

    mean: Tensor
    covariance: Tensor | None = None
    root: Tensor | None = None
    noise: float = 0.0

    def trace(self) -> Tensor:
        """Returns the total variance, a () tensor."""
        return self.root.square().sum() if self.root is not None else self.dense().trace()

    def dense(self) -> Tensor:
        """Returns the (D, D) covariance; only its lower triangle is valid."""
        if self.covariance is not None:
            return self.covariance
        assert self.root is not None
        return self.root @ self.root.T

    def thin_root(self) -> Tensor:
        """Returns a (D, R) root without the columns that are rounding errors."""
        if self.root is not None:
            return self.root
        eigenvalues, vectors = torch.linalg.eigh(self.dense())
        real = eigenvalues > max(self.noise, len(eigenvalues) * _EPS * float(eigenvalues[-1].clamp(min=0)))
        return vectors[:, real] * eigenvalues[real].sqrt()


def no_moments(dimensions: int, device: torch.device | str = "cpu") -> Moments:
    """Returns the moments of an empty set."""
    total = torch.zeros(dimensions, dtype=torch.float64, device=device)
    folded = torch.zeros((), dtype=torch.int64, device=device)
    return Moments(folded, total, total.new_zeros(dimensions, dimensions), total.new_zeros(0, dimensions))


def add_features(moments: Moments, features: Tensor) -> Moments:
    """Adds samples to moments; memory is O(D^2) for any number of samples.

    Args:
        moments: Moments of the previous samples.
        features: (N, D) features of any float type.

    Returns:
        Moments of all samples.

    Raises:
        ValueError: If ``features`` has another shape or values that are not finite.
    """
    dimensions = moments.total.shape[0]
    if features.ndim != 2 or features.shape[1] != dimensions:
        raise ValueError(f"features must have shape (N, {dimensions}), found {tuple(features.shape)}")
    bad = (~torch.isfinite(features)).any(dim=1).nonzero().flatten().tolist()
    if bad:
        raise ValueError(
            f"{len(bad)} of {len(features)} feature rows have NaN or infinite values (the first is row {bad[0]}); "
            "check the images they come from and the network's weights"
        )
    kept = torch.cat([moments.kept, features.detach().to(moments.total)])
    grown = moments._replace(kept=kept)
    return _fold(grown) if grown.samples >= dimensions else grown


def merge_moments(a: Moments, b: Moments) -> Moments:
    """Merges the moments of two sets.

    Raises:
        ValueError: If the sets have different dimensions.
    """
    if a.total.shape != b.total.shape:
        raise ValueError(f"cannot merge features of {a.total.shape[0]} and {b.total.shape[0]} dimensions")
    merged = Moments(a.folded + b.folded, a.total + b.total, a.outer + b.outer, torch.cat([a.kept, b.kept]))
    return _fold(merged) if merged.samples >= merged.total.shape[0] else merged


def gaussian(moments: Moments, ddof: int = 1) -> Gaussian:
    """Computes mean and covariance of the samples.

    Args:
        moments: Moments of N samples.
        ddof: The covariance is divided by N - ddof.

    Raises:
        ValueError: If there are fewer than two samples.
    """
    n = moments.samples
    if n < 2:
        raise ValueError(f"a Fréchet distance needs at least two samples on each side, found {n}")
    if n < moments.total.shape[0] and int(moments.folded) == 0:
        mean = moments.kept.mean(dim=0)
        return Gaussian(mean, root=(moments.kept - mean).T / (n - ddof) ** 0.5)
    sums = _fold(moments)
    mean = sums.total / n
    covariance = torch.addr(sums.outer, mean, mean, alpha=-n).div_(n - ddof)
    # Cancellation: the variance has the absolute rounding error of the raw second moment.
    noise = 4 * _EPS * float(sums.outer.trace()) / (n - ddof)
    return Gaussian(mean, covariance=covariance, noise=noise)


def ddof_of(convention: str) -> int:
    """Returns the ``ddof`` of a convention: 0 for StyleGAN-V, 1 for the others.

    Raises:
        ValueError: If the convention is unknown.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"unknown Fréchet convention {convention!r}; choose one of {', '.join(CONVENTIONS)}")
    return 0 if convention == "stylegan-v" else 1


def distance_between(a: Gaussian, b: Gaussian, convention: str = "pytorch-fid") -> Tensor:
    """Computes the Fréchet distance of two Gaussians, squared as in all papers; lower is better, 0 is equal.

    ``pytorch-fid`` and ``stylegan-v`` give the exact value and differ only in the division of the covariances.
    ``tfgan`` computes tensorflow_gan's trace, which takes no square root of singular values below 1e-10. (The torch
    ports in VideoGPT and TATS use float32, so their last four digits differ between machines.) For equal sets rounding
    may give about -1e-13.

    Args:
        a: First Gaussian.
        b: Second Gaussian, of the same dimensions.
        convention: One of ``CONVENTIONS``.

    Returns:
        () float64 distance.

    Raises:
        ValueError: If the convention is unknown or the dimensions differ.
    """
    ddof_of(convention)
    if a.mean.shape != b.mean.shape:
        raise ValueError(
            f"the sides have features of {a.mean.shape[0]} and {b.mean.shape[0]} dimensions, expected equal numbers"
        )
    mean = (a.mean - b.mean).square().sum()
    cross = _tfgan_trace(a.dense(), b.dense()) if convention == "tfgan" else _exact_trace(a, b)
    return mean + a.trace() + b.trace() - 2 * cross


def frechet_distance(features_1: Tensor, features_2: Tensor, convention: str = "pytorch-fid") -> Tensor:
    """Computes the () float64 Fréchet distance of two feature sets (N, D) and (M, D).

    Examples:
        >>> import torch
        >>> from metrics.functional.frechet import frechet_distance
        >>> real, fake = torch.randn(100, 8), torch.randn(90, 8) + 1
        >>> frechet_distance(real, fake) > frechet_distance(real, real)
        tensor(True)

    Raises:
        ValueError: If a set has fewer than two samples or values that are not finite, or if the dimensions differ.
    """
    if features_1.ndim != 2 or features_2.ndim != 2 or features_1.shape[1] != features_2.shape[1]:
        raise ValueError(
            f"expected two (N, D) feature sets, found {tuple(features_1.shape)} and {tuple(features_2.shape)}"
        )
    ddof = ddof_of(convention)
    sides = [add_features(no_moments(x.shape[1], x.device), x) for x in (features_1, features_2)]
    return distance_between(gaussian(sides[0], ddof), gaussian(sides[1], ddof), convention)


def frechet_distance_from_moments(
    mu_1: Tensor, sigma_1: Tensor, mu_2: Tensor, sigma_2: Tensor, convention: str = "pytorch-fid"
) -> Tensor:
    """Computes the () float64 Fréchet distance from means (D,) and covariances (D, D), as in pytorch-fid's ``.npz``.

    Only the lower triangle of a covariance is used, as in numpy's ``eigh``.

    Raises:
        ValueError: If shapes do not match, values are not finite, or a covariance has a negative eigenvalue.
    """
    sides = []
    for mean, covariance in ((mu_1, sigma_1), (mu_2, sigma_2)):
        mean, covariance = torch.atleast_1d(mean).double(), torch.atleast_2d(covariance).double()
        if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
            raise ValueError(f"a mean {tuple(mean.shape)} does not match a covariance {tuple(covariance.shape)}")
        if not (torch.isfinite(mean).all() and torch.isfinite(covariance).all()):
            raise ValueError("mean or covariance has NaN or infinite values")
        covariance = _symmetric(covariance)
        smallest, largest = torch.linalg.eigvalsh(covariance)[[0, -1]].tolist()
        if smallest < -1e-8 * max(abs(largest), 1e-300):
            raise ValueError(f"a covariance has the negative eigenvalue {smallest:.3g}, expected none below zero")
        sides.append(Gaussian(mean, covariance=covariance))
    return distance_between(sides[0], sides[1], convention)


def warn_if_rank_deficient(name: str, samples: int, dimensions: int) -> None:
    """Warns if the covariance is singular (N <= D): the value is exact, but biased upwards."""
    if samples <= dimensions:
        warnings.warn(
            f"{name}: {samples} samples for {dimensions} dimensions give a singular covariance. The value is exact but "
            "biased upwards: compare it only with values from the same number of samples.",
            stacklevel=3,
        )


def _fold(moments: Moments) -> Moments:
    kept = moments.kept
    if len(kept) == 0:
        return moments
    return Moments(
        folded=moments.folded + len(kept),
        total=moments.total + kept.sum(dim=0),
        outer=moments.outer + kept.T @ kept,
        kept=kept.new_zeros(0, kept.shape[1]),
    )


def _exact_trace(a: Gaussian, b: Gaussian) -> Tensor:
    """Computes tr((S_1 S_2)^(1/2)) by Cholesky if both covariances are well-conditioned, else by the nuclear norm."""
    if a.root is None and b.root is None and (lower := _cholesky(a.dense())) is not None:
        eigenvalues = _congruence_spectrum(lower, b.dense())
        roots = eigenvalues.clamp(min=0).sqrt()
        # The error of an eigenvalue w is e = eps |S_1| |S_2|, so the error of its root is e / (2 sqrt(w)), at most
        # sqrt(e).
        error = _EPS * torch.linalg.matrix_norm(a.dense()) * torch.linalg.matrix_norm(b.dense())
        uncertain = torch.minimum(error / (2 * roots), error.sqrt()).sum()
        if uncertain <= 1e-11 * (a.trace() + b.trace()):
            return roots.sum()
        other = _cholesky(b.dense())
        if other is not None and _is_well_conditioned(a, lower) and _is_well_conditioned(b, other):
            return _nuclear_norm(lower.T @ other)
    return _nuclear_norm(a.thin_root().T @ b.thin_root())


def _cholesky(covariance: Tensor) -> Tensor | None:
    """Returns the (D, D) lower L with S = L L^T; None if S is not positive definite.

    On the CPU, LAPACK gets the transpose, which is column-major, without a copy.
    """
    if covariance.device.type != "cpu":
        lower, failed = torch.linalg.cholesky_ex(covariance)
        return None if failed else lower
    upper, failed = lapack.dpotrf(covariance.numpy().T, lower=0, clean=1)
    return None if failed else torch.from_numpy(upper.T)


def _congruence_spectrum(lower: Tensor, covariance: Tensor) -> Tensor:
    """Returns the (D,) eigenvalues of L^T S L; on the CPU with a symmetric product, at a quarter of the cost."""
    if covariance.device.type != "cpu":
        symmetric = _symmetric(covariance)
        return torch.linalg.eigvalsh(lower.T @ symmetric @ lower)
    product, _ = lapack.dsygst(covariance.numpy().T, lower.numpy().T, itype=2, lower=0)
    return torch.from_numpy(
        scipy.linalg.eigh(product, lower=False, eigvals_only=True, driver="evd", overwrite_a=True, check_finite=False)
    )


def _is_well_conditioned(side: Gaussian, lower: Tensor) -> bool:
    """Whether the smallest eigenvalue is far above rounding errors, so that ``thin_root`` would keep all columns.

    Its lower bound is 1 / |S^-1|_1; LAPACK estimates this norm within a small factor.
    """
    if lower.device.type != "cpu":
        return False
    norm = float(_symmetric(side.dense()).abs().sum(dim=0).max())
    reciprocal_condition, _ = lapack.dpocon(lower.numpy().T, norm, uplo="U")
    return float(reciprocal_condition) * norm > 10 * max(side.noise, len(lower) * _EPS * norm)


def _nuclear_norm(matrix: Tensor) -> Tensor:
    if matrix.device.type != "cpu":
        return torch.linalg.svdvals(matrix).sum()
    return torch.from_numpy(scipy.linalg.svdvals(matrix.numpy(), check_finite=False)).sum()


def _symmetric(matrix: Tensor) -> Tensor:
    """Returns the symmetric matrix with the given lower triangle."""
    return matrix.tril() + matrix.tril(-1).T


def _tfgan_trace(one: Tensor, two: Tensor) -> Tensor:
    """Computes tensorflow_gan's tr sqrt(sqrt(S_1) S_2 sqrt(S_1)) with its rule for small singular values."""
    one, two = _symmetric(one), _symmetric(two)
    left, values, right = torch.linalg.svd(one)
    root = left * _root_above_eps(values) @ right
    return _root_above_eps(torch.linalg.svdvals(root @ two @ root)).sum()


def _root_above_eps(values: Tensor) -> Tensor:
    return torch.where(values < _TFGAN_EPS, values, values.sqrt())
