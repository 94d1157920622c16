"""Random tables and what they come to, for src/score/oracle_tests.rs: Wilson's interval by statsmodels, McNemar's exact test by scipy's
binomial test, Tango's interval by make_tango.py, clustered errors by statsmodels' cluster-robust least squares, quantiles and deviations by
numpy, the ratios of paired means and of costs by their covariance matrix and a numerical gradient, pass@k by scipy's hypergeometric distribution, the
sequential test by its definition: the product of every question's winnings, unit after unit, in 40 digits.
Needs numpy, scipy, statsmodels and mpmath; writes statistics.json beside it. No formula is shared with src/score."""

import contextlib
import io
import json
import warnings
from pathlib import Path

import numpy as np
import statsmodels.api as sm
from mpmath import erfc, mp, mpf, sqrt
from scipy.stats import binomtest, hypergeom
from statsmodels.stats.proportion import proportion_confint

with contextlib.redirect_stdout(io.StringIO()):
    from make_clusters import design_effect
    from make_clusters import wilson as wilson_of_parts
    from make_tango import bound

warnings.simplefilter("error")
rng = np.random.default_rng(18)


def f(value):
    """As binary64; 17 digits bring it back to the last bit."""
    return float(mp.nstr(value, 20)) if isinstance(value, mpf) else float(value)


def wilson():
    for n in [1, 2, 3, 10, 240, 1319, 100_000, *rng.integers(1, 5000, 53)]:
        successes = int(rng.integers(0, n + 1))
        low, high = proportion_confint(successes, int(n), alpha=0.05, method="wilson")
        yield successes, int(n), f(low), f(high)


def mcnemar():
    for _ in range(60):
        lost, gained = (int(count) for count in rng.integers(0, rng.choice([3, 12, 60, 800]), 2))
        p = 1.0 if lost + gained == 0 else binomtest(min(lost, gained), lost + gained, 0.5).pvalue
        yield lost, gained, f(p)


def tango():
    for _ in range(40):
        n = int(rng.integers(5, 1500))
        lost = int(rng.integers(0, 1 + rng.choice([1, n // 20 + 1, n // 3 + 1])))
        gained = int(rng.integers(0, 1 + rng.choice([1, n // 20 + 1, n // 3 + 1])))
        low, high = (bound(lost, gained, n, end) for end in (mpf("-0.9999999"), mpf("0.9999999")))
        yield lost, gained, n, f(low), f(high)


def groups():
    """Clusters of 1 to 7 in any order."""
    sizes = rng.integers(1, 8, int(rng.integers(3, 40)))
    return rng.permutation(np.repeat(np.arange(len(sizes)), sizes))


def clustered_shares():
    for _ in range(40):
        group = groups()
        hardness = rng.beta(0.7, 0.7, group.max() + 1)
        right = (rng.random(len(group)) < hardness[group]).astype(int)
        effect = mpf(design_effect(right, group))
        low, high = wilson_of_parts(int(right.sum()) / effect, len(right) / effect)
        yield group.tolist(), right.tolist(), f(effect), f(low), f(high)


def clustered_differences():
    for _ in range(40):
        group = groups()
        hardness, change = rng.beta(0.7, 0.7, group.max() + 1), rng.beta(0.3, 2.0, group.max() + 1)
        was = rng.random(len(group)) < hardness[group]
        now = was ^ (rng.random(len(group)) < change[group])
        changes = now.astype(int) - was.astype(int)
        effect = mpf(design_effect(changes, group))
        lost, gained, n = int((changes == -1).sum()), int((changes == 1).sum()), len(changes)
        ends = (mpf("-0.9999999"), mpf("0.9999999"))
        low, high = (bound(lost / effect, gained / effect, n / effect, end) for end in ends)
        z = mpf(gained - lost) / sqrt((lost + gained) * effect) if lost + gained else mpf(0)
        both = was.astype(int).tolist(), now.astype(int).tolist()
        yield group.tolist(), *both, f(effect), f(low), f(high), f(erfc(abs(z) / sqrt(2)))


def cluster_robust(values, group):
    """The mean and its standard error, with the factor clusters / (clusters - 1) alone."""
    kinds = {"groups": group, "use_correction": False, "df_correction": False}
    fit = sm.OLS(values, np.ones(len(values))).fit(cov_type="cluster", cov_kwds=kinds)
    m = len(np.unique(group))
    return fit.params[0], np.sqrt(fit.cov_params()[0, 0] * m / (m - 1))


def blocks():
    for _ in range(30):
        lengths = rng.integers(1, 12, int(rng.integers(2, 20)))
        group = np.repeat(np.arange(len(lengths)), lengths)
        values = rng.normal(0, 1, len(lengths))[group] + rng.exponential(1.5, len(group))
        mean, error = cluster_robust(values, group)
        plain = cluster_robust(values, np.arange(len(values)))[1]
        yield values.tolist(), lengths.tolist(), f(mean), f(error), f(plain)


def quantiles():
    for _ in range(20):
        values = np.sort(rng.normal(0, 3, int(rng.integers(1, 50))))
        q = float(rng.random())
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
        yield values.tolist(), q, f(np.quantile(values, q)), f(values.mean()), deviation


def ratios():
    z = 1.959963984540054
    for _ in range(30):
        reference = rng.gamma(3.0, 60.0, int(rng.integers(2, 60)))
        other = reference * rng.normal(1.05, 0.2, len(reference)) + rng.normal(0, 5, len(reference))
        means = np.array([reference.mean(), other.mean()])
        of = lambda at: at[1] / at[0]
        step = 1e-6 * means
        gradient = np.array([(of(means + np.eye(2)[i] * step[i]) - of(means - np.eye(2)[i] * step[i])) / (2 * step[i]) for i in range(2)])
        half = z * np.sqrt(gradient @ np.cov(reference, other, ddof=1) @ gradient / len(reference))
        yield reference.tolist(), other.tolist(), f(of(means)), f(of(means) - half), f(of(means) + half)


def cost_ratios():
    z = 1.959963984540054
    for _ in range(30):
        n = int(rng.integers(3, 60))
        cost = rng.gamma(2.0, 1.5, n)
        right = (rng.random(n) < 0.6).astype(float)
        other_right = np.where(rng.random(n) < 0.85, right, 1 - right)
        right[0] = other_right[1] = 1.0
        units = np.array([cost, right, cost * rng.normal(0.6, 0.1, n), other_right])
        means = units.mean(axis=1)
        of = lambda at: np.log(at[2] / at[3] / (at[0] / at[1]))
        step = 1e-6 * means
        gradient = np.array([(of(means + np.eye(4)[i] * step[i]) - of(means - np.eye(4)[i] * step[i])) / (2 * step[i]) for i in range(4)])
        half = z * np.sqrt(gradient @ np.cov(units, ddof=1) @ gradient / n)
        yield units.T.tolist(), f(np.exp(of(means))), f(np.exp(of(means) - half)), f(np.exp(of(means) + half))


def pass_at():
    for _ in range(40):
        n = int(rng.integers(2, 64))
        right, k = int(rng.integers(0, n + 1)), int(2 ** rng.integers(0, int(np.log2(n)) + 1))
        yield n, right, k, f(1 - hypergeom.pmf(0, n, right, k))


def sequential():
    """Units of (lost, gained, answers), the largest there can be, m, both capitals, both bounds."""
    stakes = [mpf(part) / 100 for part in (10, 20, 30, 40, 50, 60, 70, 80, 90, 99)]

    def capital(units, largest, m, side):
        total = mpf(0)
        for stake in stakes:
            money = mpf(1)
            for lost, gained, answers in units:
                money *= 1 + stake * side * (gained - lost - m * answers) / (largest * (1 + side * m))
            total += money
        return total / len(stakes)

    def bound(units, largest, side):
        refuted, still = -mpf(side), mpf(side)
        for _ in range(60):
            middle = (refuted + still) / 2
            refuted, still = (middle, still) if capital(units, largest, middle, side) >= 20 else (refuted, middle)
        return refuted

    for _ in range(24):
        largest, change = int(rng.choice([1, 1, 4])), rng.beta(1, 9)
        units = []
        for _ in range(int(rng.integers(1, 250))):
            answers = int(rng.integers(1, largest + 1))
            lost = int(rng.binomial(answers, change))
            units.append((lost, int(rng.binomial(answers - lost, change * rng.random())), answers))
        m = mpf(float(rng.uniform(-0.3, 0.3)))
        capitals = (f(capital(units, largest, m, side)) for side in (1, -1))
        yield units, largest, f(m), *capitals, *(f(bound(units, largest, side)) for side in (1, -1))


tables = {one.__name__: [list(row) for row in one()] for one in
          [wilson, mcnemar, tango, clustered_shares, clustered_differences, blocks, quantiles, ratios, pass_at, sequential, cost_ratios]}
lines = (f" {json.dumps(name)}: [\n" + ",\n".join("  " + json.dumps(row) for row in rows) + "\n ]" for name, rows in tables.items())
(Path(__file__).parent / "statistics.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
