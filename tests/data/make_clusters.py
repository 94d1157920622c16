"""The figures of src/score/cluster.rs and src/score/repeats.rs, by other ways: the variance over clusters is that of statsmodels'
least squares on a constant with cluster-robust errors, Wilson's bounds are the roots of the score equation in mpmath, Tango's those of
make_tango.py, and pass@k is counted over every choice of k answers. Needs mpmath, numpy and statsmodels; prints rows of Rust."""

import contextlib
import io
from fractions import Fraction
from itertools import combinations

import numpy as np
import statsmodels.api as sm
from mpmath import erfc, findroot, mp, mpf, sqrt

with contextlib.redirect_stdout(io.StringIO()):
    from make_tango import Z, bound

mp.dps = 40


def design_effect(values, groups):
    """Values and the group of each; the plain variance is that of the values over n, not n − 1."""
    values, groups = np.array(values, float), np.array(groups)
    n, sizes = len(values), np.bincount(groups)
    most = (sizes**2).sum() / n
    if values.var() == 0:
        return most
    fit = sm.OLS(values, np.ones(n)).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False, "df_correction": False}
    )
    m = len(sizes)
    robust = fit.cov_params()[0, 0] * m / (m - 1)
    return min(max(robust / (values.var() / n), 1.0), most)


def wilson(successes, n):
    p = mpf(successes) / n
    f = lambda q: (p - q) ** 2 - Z**2 * q * (1 - q) / n
    low = findroot(f, (mpf("1e-9"), p - mpf("1e-9")), solver="anderson") if p > 0 else mpf(0)
    high = findroot(f, (p + mpf("1e-9"), 1 - mpf("1e-9")), solver="anderson") if p < 1 else mpf(1)
    return low, high


def flat(clusters):
    return [v for c in clusters for v in c], [g for g, c in enumerate(clusters) for _ in c]


print("// wilson: clusters, design effect, low, high")
for clusters in [
    [[1, 1, 1, 0], [0, 0, 0, 0], [1, 1, 0, 1], [1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 1, 0]],
    [[1, 0], [0, 1], [1, 0], [0, 1], [1, 1]],
    [[1, 1, 1], [1, 1, 1], [0, 0, 0], [1, 1, 1]],
    [[1], [0, 0, 0], [1, 1], [0], [1, 1, 1, 0], [1]],
    [[1, 1], [1, 1], [1, 1]],
]:
    values, groups = flat(clusters)
    deff = design_effect(values, groups)
    low, high = wilson(sum(values) / mpf(deff), len(values) / mpf(deff))
    print(clusters, f"{deff:.15}", mp.nstr(low, 15), mp.nstr(high, 15))

print("// tango: clusters of (reference, other), design effect, low, high, p")
for clusters in [
    [[(1, 0), (1, 0), (1, 1)], [(1, 1), (1, 1), (1, 1)], [(0, 1), (0, 0), (0, 0)], [(1, 0), (1, 0), (1, 0)], [(0, 0), (0, 0), (1, 1)]],
    [[(1, 0), (1, 1)], [(1, 1), (0, 1)], [(0, 0), (0, 0)], [(1, 0), (0, 1)]],
    [[(1, 1), (1, 1)], [(0, 0), (0, 0)]],
    [[(1, 0)], [(1, 0), (1, 0), (1, 1), (0, 0)], [(1, 1)], [(0, 1), (1, 1)], [(0, 0)]],
]:
    pairs, groups = flat(clusters)
    changes = [b - a for a, b in pairs]
    deff = mpf(design_effect(changes, groups))
    lost, gained, n = changes.count(-1), changes.count(1), len(changes)
    ends = (mpf("-0.9999999"), mpf("0.9999999"))
    low, high = (bound(lost / deff, gained / deff, n / deff, end) for end in ends)
    z = mpf(gained - lost) / sqrt((lost + gained) * deff) if lost + gained else mpf(0)
    print(clusters, f"{float(deff):.15}", mp.nstr(low, 15), mp.nstr(high, 15), mp.nstr(erfc(abs(z) / sqrt(2)), 15))

print("// pass@k: n, c, k, value")
for n, c, k in [(5, 2, 1), (5, 2, 2), (5, 2, 4), (8, 3, 4), (8, 1, 8), (8, 0, 4), (16, 5, 8), (20, 1, 2)]:
    choices = list(combinations(range(n), k))
    passed = Fraction(sum(any(i < c for i in choice) for choice in choices), len(choices))
    print(f"({n}, {c}, {k}, {float(passed)!r}),")
