"""The bundled model's training rows: the problems of datasets/bundled/generate.py, and drills in bare arithmetic between them."""
import generate as gen

STREAM_MODEL = 1000
DRILLS_OF_100 = 25


def exercise(r, level):
    """Two numbers and what to do with them: (a, op, b)."""
    kind = r.pick("++---**/hd")
    while True:
        x, y = gen.mu(r, level)
        a, b = gen.sb(r, level)
        made = {"+": (a - 3, "+", gen.ad(r, level)), "-": (a, "-", b), "*": (x, "*", y) if r.below(2) else (y, "*", x),
                "/": (x * y, "/", x), "h": (2 * a, "/", 2), "d": (a, "*", 2)}[kind]
        if gen.solve("ab", made[::2], [("a", made[1], "b", "", "c")], level):
            return made


def follow(r, level, a):
    """A step onwards from the number a: (a, op, b)."""
    while True:
        op = r.pick("++--**/")
        b = gen.ad(r, level) if op in "+-" else r.range(2, 12)
        if gen.solve("ab", (a, b), [("a", op, "b", "", "c")], level):
            return a, op, b


def drill(r, weights):
    """Bare arithmetic in the form of a problem: (question, answer)."""
    level = gen.draw_level(r, weights)
    count = r.range(1, 5)
    steps = []
    if r.below(2):
        steps = [exercise(r, level) for _ in range(count)]
        question = r.pick(["What is {}?", "Work out {}.", "Find {}."]).format(", then ".join("%d %s %d" % s for s in steps))
    else:
        a = gen.ad(r, level)
        question = f"Start with {a}."
        for _ in range(count):
            step = follow(r, level, a)
            steps.append(step)
            question += {"+": " Add", "-": " Take away", "*": " Multiply by", "/": " Divide by"}[step[1]] + f" {step[2]}."
            a = gen.result(*step)
        question += " What do you get?"
    lines = [gen.written(*s, gen.result(*s)) for s in steps]
    return question, "\n".join(lines) + f"\n#### {gen.result(*steps[-1])}"


def model_stream(number, weights=gen.LEVEL_WEIGHTS):
    """An endless stream of (question, answer) for training the model: problems, and drills between them."""
    problems = gen.stream(number, False, weights)
    r = gen.Rng(gen.SEED + 2, number)
    while True:
        yield drill(r, weights) if r.below(100) < DRILLS_OF_100 else next(problems)[:2]
