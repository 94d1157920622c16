"""The figures of src/score/noninferiority.rs, by another way: for an assumed difference the likelihood of the counts is
maximised numerically over the probability of a loss, and the two differences at which the score statistic reaches the
normal quantile are found by bisection. Needs mpmath; prints rows of Rust."""

from mpmath import mp, mpf, sqrt

mp.dps = 40
Z = mpf("1.959963984540054")


def loss_probability(lost, gained, n, d):
    """argmax over q of lost·ln q + gained·ln(q + d) + unchanged·ln(1 − 2q − d)."""
    low, high = max(mpf(0), -d), (1 - d) / 2
    unchanged = n - lost - gained

    def slope(q):
        total = mpf(0)
        total += lost / q if lost else 0
        total += gained / (q + d) if gained else 0
        total -= 2 * unchanged / (1 - 2 * q - d) if unchanged else 0
        return total

    tiny = (high - low) * mpf(10) ** -38
    a, b = low + tiny, high - tiny
    if slope(a) <= 0:
        return low
    if slope(b) >= 0:
        return high
    for _ in range(140):
        m = (a + b) / 2
        a, b = (m, b) if slope(m) > 0 else (a, m)
    return (a + b) / 2


def statistic(lost, gained, n, d):
    q = loss_probability(lost, gained, n, d)
    return (gained - lost - n * d) / sqrt(n * ((q + d) + q - d * d))


def bound(lost, gained, n, outside):
    inside = mpf(gained - lost) / n
    outside = mpf(outside)
    for _ in range(120):
        m = (inside + outside) / 2
        accepted = abs(statistic(lost, gained, n, m)) < Z
        inside, outside = (m, outside) if accepted else (inside, m)
    return inside


for lost, gained, n in [(0, 1, 10), (1, 0, 240), (0, 2, 240), (11, 5, 240), (167, 0, 240), (60, 30, 1319), (8, 4, 12)]:
    low, high = (bound(lost, gained, n, end) for end in (mpf("-0.9999999"), mpf("0.9999999")))
    print(f"({lost}, {gained}, {n}, {mp.nstr(low, 15)}, {mp.nstr(high, 15)}),")
