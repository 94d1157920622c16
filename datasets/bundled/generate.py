#!/usr/bin/env python3
"""Writes the bundled problem set: arithmetic word problems in GSM8K's schema.

Everything here (templates, words, numbers) was written for this project. The
problems are drawn from a seeded splitmix64 stream, so the same text comes out
on every Python version and platform. Run:

    python3 datasets/bundled/generate.py

to write train.parquet (6000 problems) and test.parquet (240 problems) beside
this file. Only that step needs pyarrow; as a module (problem(), stream()) the
file needs the standard library alone.

Split: each problem has a key, its template's id and the numbers drawn for it.
A hash of the key reserves one key in 16 for evaluation. The test set is drawn
from reserved keys only, and every training stream skips all reserved keys, so
no (template, numbers) pair, and no question, is in both.
"""
import re
import sys
import zlib
from pathlib import Path

SEED = 20261122
N_TRAIN, N_TEST = 6000, 240
STREAM_TEST, STREAM_TRAIN = 1, 2
RESERVED_ONE_IN = 16
# How often each level of number size is drawn, of 100; 0 is the smallest. Training and test are drawn alike.
LEVEL_WEIGHTS = (5, 10, 15, 10, 15, 15, 15, 15)
# Numbers to add, by level: lowest, highest.
ADDENDS = ((2, 20), (5, 50), (10, 100), (30, 180), (30, 180), (60, 199), (100, 500), (200, 900))
# Factors, by level: lowest and highest of each of the two.
FACTORS = ((2, 9, 2, 10), (2, 10, 2, 12), (3, 12, 3, 12), (3, 9, 11, 20), (13, 60, 2, 15), (11, 20, 9, 16),
           (12, 50, 6, 19), (13, 60, 11, 30))
# No number in a problem, given or computed, is larger; by level.
LARGEST = (200, 200, 200, 200, 200, 240, 700, 999)

MASK = (1 << 64) - 1


def mix64(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


class Rng:
    """splitmix64; range() by the multiply-and-shift method."""

    __slots__ = ("s",)

    def __init__(self, seed, stream=0):
        self.s = mix64((seed * 0x9E3779B97F4A7C15 + stream * 0xD1B54A32D192ED03) & MASK)

    def u64(self):
        self.s = (self.s + 0x9E3779B97F4A7C15) & MASK
        return mix64(self.s)

    def below(self, n):
        return (self.u64() >> 32) * n >> 32

    def range(self, lo, hi):
        """An integer from lo to hi, both included."""
        return lo + ((self.u64() >> 32) * (hi - lo + 1) >> 32)

    def pick(self, seq):
        return seq[self.below(len(seq))]


# ---------------------------------------------------------------- words

SHE = ("Ada Bella Carla Dina Elsa Fiona Greta Hanna Ines Julia Katya Lena Mara Nora Olga Paula "
       "Rosa Sofia Tara Vera Wanda Yara Zoe Amira").split()
HE = ("Adam Boris Carlos David Emil Felix Georg Hugo Ivan Jonas Karim Leo Marco Nils Oscar Pavel "
      "Rafael Samir Tomas Viktor Walter Yusuf Zeno Arjun").split()
THINGS = ("apples marbles stickers pencils shells coins beads buttons postcards stamps cards "
          "ribbons balloons cookies candles pebbles crayons badges plums oranges walnuts magnets "
          "tokens feathers envelopes tulips peaches keys bricks tiles").split()
HOLDERS = ("boxes bags baskets crates trays jars drawers tins shelves packets").split()
SHOPS = ("bakery bookshop museum market stall cinema zoo theater library cafe pool").split()
GOODS = ("notebook lamp scarf mug puzzle kite basket clock chair blanket teapot helmet "
         "backpack painting radio jacket").split()
GETS = ["buys", "finds", "gets", "collects", "receives", "picks up"]
LOSES = ["loses", "sells", "throws away", "donates", "gives away", "breaks"]
GROUPS = ("children friends neighbors cousins students players guests classmates").split()
MAKERS = ["A factory", "A workshop", "A printer", "A machine", "A mill", "A plant"]
MAKES = ("bolts toys bottles cups spoons posters bulbs wheels plates pens").split()
ANIMALS = ("goats sheep ducks hens cows horses rabbits geese").split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
RIDES = ["A train", "A bus", "A ship", "A truck", "A cyclist", "A ferry"]


# ---------------------------------------------------------------- numbers

def ad(r, level):
    """A number to add or take from."""
    return r.range(*ADDENDS[max(level, 0)])


def sb(r, level):
    """Two numbers, the first clearly larger."""
    a = ad(r, level) + 3
    return a, r.range(max(2, a // 6), a - 2)


def mu(r, level):
    """Two factors: a count of groups and a size."""
    a, b, c, d = FACTORS[max(level, 0)]
    return r.range(a, b), r.range(c, d)


def part(r, total):
    """A part of total that leaves a clear rest."""
    return r.range(max(1, total // 6), max(1, total - 1 - total // 9))


TEMPLATES = {1: [], 2: [], 3: []}
STEP = re.compile(r"\{(\w+)([-+*/])(\w+)=(\$?)(\w+)\}")


def T(tid, names, draw, questions, lines, last):
    """Adds one template.

    names: the keys of the numbers draw returns, in order. A line holds one
    step {a+b=c} (or {a+b=$c} for money), which computes c and is written out
    with its calculator annotation. last: the key of the final answer.
    """
    steps = []
    out = []
    for i, line in enumerate(lines):
        m = STEP.search(line)
        steps.append((m[1], m[2], m[3], m[4], m[5]))
        out.append(line[: m.start()] + "{_%d}" % i + line[m.end():])
    TEMPLATES[len(lines)].append((tid, names, draw, questions, "\n".join(out), steps, last))


# ---- one step

T("1-together", "ab", lambda r, v: (ad(r, v), ad(r, v)),
  ["{n} has {a} {o} and {m} has {b} {o}. How many {o} do they have together?",
   "{n} brings {a} {o} to the fair. {m} brings {b} {o}. How many {o} do {n} and {m} bring in all?"],
  ["Together they have {a+b=c} {o}."], "c")
T("1-more", "ab", lambda r, v: (ad(r, v), ad(r, v)),
  ["{n} has {a} {o}. {He} {get} {b} more. How many {o} does {n} have now?",
   "After starting with {a} {o}, {n} {get} another {b}. What is the number of {o} {he} has now?"],
  ["{n} now has {a+b=c} {o}."], "c")
T("1-left", "ab", sb,
  ["{n} had {a} {o} and {he} {lose} {b} of them. How many {o} are left?",
   "Out of {his} {a} {o}, {n} {lose} {b}. How many {o} does {he} still have?"],
  ["{n} has {a-b=c} {o} left."], "c")
T("1-fewer", "ab", sb,
  ["{n} has {a} {o}. {m} has {b} fewer {o} than {n}. How many {o} does {m} have?",
   "{m} owns {b} fewer {o} than {n}, who owns {a}. How many {o} does {m} own?"],
  ["{m} has {a-b=c} {o}."], "c")
T("1-howmanymore", "ab", sb,
  ["The {shop} had {a} visitors on {day} and {b} visitors the day after. How many more visitors came on {day}?",
   "On {day} {a} people came to the {shop}, and the next day {b} people came. By how many did the number fall?"],
  ["The difference is {a-b=c} people."], "c")
T("1-groups", "xy", mu,
  ["There are {x} {box} with {y} {o} in each. How many {o} are there?",
   "{n} fills {x} {box}. Each of them holds {y} {o}. How many {o} does {he} use in total?"],
  ["There are {x*y=c} {o} in the {box}."], "c")
T("1-price", "xy", mu,
  ["One {good} costs ${y}. How much do {x} of them cost?",
   "{n} orders {x} pieces of a {good} that sells for ${y}. How many dollars does {he} pay?"],
  ["They cost {x*y=$c}."], "c")
T("1-wage", "xy", mu,
  ["{n} earns ${y} a day. How many dollars does {he} earn in {x} days?",
   "{n} works for {x} days and is paid ${y} for each day. How much money does {he} earn?"],
  ["{n} earns {x*y=$c}."], "c")
T("1-rows", "xy", mu,
  ["A hall has {x} rows of {y} seats. How many seats does the hall have?",
   "In a field, {n} plants {x} rows with {y} trees in each row. How many trees does {he} plant?"],
  ["The rows hold {x*y=c} in all."], "c")
T("1-share", "tx", lambda r, v: (lambda p: (p[0] * p[1], p[0]))(mu(r, v)),
  ["{n} shares {t} {o} equally among {x} {group}. How many {o} does each one get?",
   "{x} {group} split {t} {o} so that all get the same number. How many {o} does each of them take?"],
  ["Each one gets {t/x=c} {o}."], "c")
T("1-pack", "tx", lambda r, v: (lambda p: (p[0] * p[1], p[0]))(mu(r, v)),
  ["{n} packs {t} {o} into {box} that hold {x} {o} each. How many {box} does {he} fill?",
   "If {x} {o} fit in each of the {box}, how many of the {box} are needed for {t} {o}?"],
  ["That makes {t/x=c} {box}."], "c")
T("1-speed", "tx", lambda r, v: (lambda p: (p[0] * p[1], p[0]))(mu(r, v)),
  ["{ride} covers {t} miles in {x} hours at an even pace. How many miles is that each hour?",
   "In {x} hours, {ride} goes {t} miles, always at the same speed. How far does it go in one hour?"],
  ["Each hour it covers {t/x=c} miles."], "c")
T("1-half", "a", lambda r, v: (2 * ad(r, v),),
  ["{n} has {a} {o}. {m} has half as many. How many {o} does {m} have?",
   "{m} picked half as many {o} as {n}. {n} picked {a}. How many {o} did {m} pick?"],
  ["{m} has {a/2=c} {o}."], "c")
T("1-twice", "a", lambda r, v: (ad(r, v),),
  ["{n} has {a} {o}. {m} has twice as many. How many {o} does {m} have?",
   "{m} wants double the number of {o} that {n} has, and {n} has {a}. How many {o} does {m} want?"],
  ["{m}'s number is {a*2=c} {o}."], "c")
T("1-times", "xy", mu,
  ["{n} has {y} {o}. {m} has {x} times as many. How many {o} does {m} have?",
   "Last year {n} had {y} {o}. Now {he} has {x} times that number. How many {o} is that?"],
  ["That is {y*x=c} {o}."], "c")
T("1-change", "ab", sb,
  ["{n} had ${a} and spent ${b} on a {good}. How many dollars does {he} have left?",
   "A {good} costs ${b}. {n} hands over ${a}. How much change does {he} get in dollars?"],
  ["{n} keeps {a-b=$c}."], "c")

# ---- two steps


def d_change(r, v):
    x, y = mu(r, v)
    return x, y, x * y + ad(r, v - 1)


def d_box_left(r, v):
    x, y = mu(r, v)
    return x, y, part(r, x * y)


def d_join_share(r, v):
    x, y = mu(r, v)
    a = part(r, x * y)
    return a, x * y - a, x


def d_two_gifts(r, v):
    a = ad(r, v)
    b = r.range(2, a // 2)
    return a, b, r.range(1, a - b - 1)


def d_box_price(r, v):
    x, y = mu(r, v - 1)
    return x * y, x, r.range(2, 12)


T("2-change", "xyp", d_change,
  ["{n} buys {x} pieces of a {good} for ${y} each and pays with ${p}. How many dollars does {he} get back?",
   "A {good} costs ${y}. {n} has ${p} and buys {x} of them. How much money is left?"],
  ["The total cost is {x*y=$c}.", "{n} has {p-c=$d} left."], "d")
T("2-packs", "axy", lambda r, v: (ad(r, v),) + mu(r, v),
  ["{n} has {a} {o}. {He} {get} {x} {box} with {y} {o} in each. How many {o} does {he} have now?",
   "{n} {get} {x} {box} of {y} {o}. At home {he} already had {a} {o}. How many {o} are there altogether?"],
  ["The {box} hold {x*y=c} {o}.", "In total {n} has {a+c=d} {o}."], "d")
T("2-joinshare", "abx", d_join_share,
  ["{n} has {a} {o} and {m} has {b}. They put them together and share them equally among {x} {group}. How many {o} does each one get?",
   "{n} bakes {a} rolls and {m} bakes {b} rolls. The rolls go in equal parts to {x} {group}. How many rolls does each receive?"],
  ["Together there are {a+b=c}.", "Each one gets {c/x=d}."], "d")
T("2-twiceboth", "a", lambda r, v: (ad(r, v),),
  ["{n} has {a} {o} and {m} has twice as many. How many {o} do they have together?",
   "{n} made {a} {o}. {m} made double that. How many {o} did the two of them make?"],
  ["{m} has {a*2=c} {o}.", "Together they have {a+c=d} {o}."], "d")
T("2-halfboth", "a", lambda r, v: (2 * ad(r, v),),
  ["{n} has {a} {o} and {m} has half as many. How many {o} do they have together?",
   "On {day} {n} sorted {a} {o}; {m} sorted half as many. How many {o} did both sort?"],
  ["{m} has {a/2=c} {o}.", "Together they have {a+c=d} {o}."], "d")
T("2-twogifts", "abe", d_two_gifts,
  ["{n} has {a} {o}. {He} gives {b} to {m} and {e} to a teacher. How many {o} does {n} keep?",
   "From a pile of {a} {o}, {n} takes {b} and {m} takes {e}. How many {o} stay in the pile?"],
  ["After the first part there are {a-b=c} {o}.", "After the second there are {c-e=d} {o}."], "d")
T("2-getlose", "abe", lambda r, v: (lambda a, b: (a, b, part(r, a + b)))(ad(r, v), ad(r, v)),
  ["{n} has {a} {o}. {He} {get} {b} more and then {lose} {e}. How many {o} does {n} have in the end?",
   "{n} starts the week with {a} {o}, {get} {b} on {day} and {lose} {e} later. How many {o} remain?"],
  ["First {n} has {a+b=c} {o}.", "Then {he} has {c-e=d} {o}."], "d")
T("2-boxleft", "xyb", d_box_left,
  ["A shop has {x} {box} of {o} with {y} in each. It sells {b} {o}. How many {o} are left?",
   "{n} fills {x} {box}, each with {y} {o} in it, and {lose} {b} of the {o}. How many {o} does {he} still have?"],
  ["At first there are {x*y=c} {o}.", "Then {c-b=d} {o} are left."], "d")
T("2-extra", "xyb", lambda r, v: mu(r, v) + (ad(r, v - 1),),
  ["{n} buys {x} tickets for ${y} each and a {good} for ${b}. How many dollars does {he} spend?",
   "A {good} costs ${b}. A ticket costs ${y}. What do {x} tickets and one {good} cost together, in dollars?"],
  ["The tickets cost {x*y=$c}.", "Everything costs {c+b=$d}."], "d")
T("2-earnspend", "xyb", d_box_left,
  ["{n} earns ${y} a day for {x} days and then spends ${b}. How much money does {he} have left?",
   "For each of {x} jobs {n} gets ${y}. {He} pays ${b} for a {good}. How many dollars remain?"],
  ["{n} earns {x*y=$c}.", "After spending, {he} has {c-b=$d}."], "d")
T("2-boxprice", "txp", d_box_price,
  ["{n} packs {t} {o} into {box} of {x} and sells each full one for ${p}. How many dollars does {he} make?",
   "{t} {o} are put in {box}, {x} in each. All of the {box} are sold at ${p} apiece. How much money does that bring?"],
  ["There are {t/x=c} {box}.", "They bring {c*p=$d}."], "d")
T("2-fewerboth", "ab", sb,
  ["{n} read {a} pages. {m} read {b} pages fewer. How many pages did they read together?",
   "On {day} the {shop} sold {a} tickets and the next day {b} fewer. How many tickets did it sell on both days?"],
  ["The second number is {a-b=c}.", "Both make {a+c=d}."], "d")
T("2-moreboth", "ab", lambda r, v: (ad(r, v), ad(r, v)),
  ["{n} has {a} {o}. {m} has {b} more than {n}. How many {o} do they have in all?",
   "{m} found {b} more {o} than {n}, and {n} found {a}. How many {o} did they find together?"],
  ["{m} has {a+b=c} {o}.", "In all they have {a+c=d} {o}."], "d")
T("2-saving", "axy", lambda r, v: (ad(r, v),) + mu(r, v),
  ["{n} has ${a}. {He} saves ${y} a week. How many dollars will {he} have after {x} weeks?",
   "Each month {n} puts ${y} aside. There is already ${a} in {his} jar. How much money is in it after {x} months?"],
  ["{n} saves {x*y=$c}.", "{He} will have {a+c=$d}."], "d")
T("2-seats", "xyb", d_box_left,
  ["A hall has {x} rows of {y} seats. {b} seats are taken. How many seats are free?",
   "{b} people sit in a theater with {x} rows and {y} seats in each row. How many empty seats are there?"],
  ["There are {x*y=c} seats.", "Of these {c-b=d} are free."], "d")
T("2-splitplus", "txb", lambda r, v: (lambda p: (p[0] * p[1], p[0], ad(r, v - 1)))(mu(r, v)),
  ["{x} {group} share a bill of ${t} equally. Each of them also pays ${b} for a {good}. How much does each one pay?",
   "A trip for {x} {group} costs ${t}, split evenly. A {good} is ${b} for each of them on top. How many dollars does each spend?"],
  ["The share is {t/x=$c}.", "Each one pays {c+b=$d}."], "d")

# ---- three steps


def d_rest_share(r, v):
    x, y = mu(r, v)
    t = x * y
    k = r.range(2, 5) if v < 1 else r.range(3, 12)
    q = r.range(max(1, t // k // 4), max(1, (t - 1) // k))
    return x, y, t - k * q, k


def d_bonus_half(r, v):
    x, y = mu(r, v)
    b = ad(r, v - 1)
    return x, y, b + (x * y + b) % 2


def d_four(r, v):
    a, b = ad(r, v), ad(r, v)
    return a, b, part(r, a + b), ad(r, v)


def d_discount(r, v):
    x, y = mu(r, v)
    b = part(r, x * y)
    return x, y, b, x * y - b + ad(r, v - 1)


def d_chain(r, v):
    a = ad(r, v)
    return a, r.range(2, 2 * a - 2)


def d_book(r, v):
    x, y = mu(r, v)
    b = ad(r, v - 1)
    return x, y, b, x * y + b + ad(r, v)


def d_save_spend(r, v):
    x, y = mu(r, v)
    a = ad(r, v)
    return a, x, y, part(r, a + x * y)


def d_two_rates(r, v):
    x, y = mu(r, v)
    u, w = mu(r, v - 1)
    if u * w >= x * y:
        x, y, u, w = u, w, x, y
    if u * w == x * y:
        y += 1
    return x, y, u, w


def d_bill(r, v):
    k, q = mu(r, v)
    t = k * q
    a = part(r, t)
    b = part(r, max(4, t - a))
    e = t - a - b
    if e < 1:
        e = e % k or k
    return a, b, e, k


def d_stops(r, v):
    a, b = sb(r, v)
    c = ad(r, v)
    return a, b, c, part(r, a - b + c)


def d_half_sold(r, v):
    h = ad(r, v)
    return 2 * h, part(r, h), ad(r, v - 1)


T("3-twokinds", "xyuw", lambda r, v: mu(r, v) + mu(r, v - 1),
  ["{n} buys {x} books for ${y} each and {u} pens for ${w} each. How many dollars does {he} spend in total?",
   "The {shop} sold {x} large tickets at ${y} and {u} small tickets at ${w}. How much money did it take in?"],
  ["The first kind comes to {x*y=$c}.", "The second kind comes to {u*w=$d}.", "Together that is {c+d=$e}."], "e")
T("3-restshare", "xybk", d_rest_share,
  ["{n} has {x} {box} with {y} {o} in each. {He} keeps {b} {o} and shares the rest equally among {k} {group}. How many {o} does each one get?",
   "There are {y} {o} in each of {x} {box}. {n} {lose} {b} {o} and splits the others evenly between {k} {group}. How many {o} does each one get?"],
  ["At first there are {x*y=c} {o}.", "The rest is {c-b=d} {o}.", "Each one gets {d/k=e} {o}."], "e")
T("3-defects", "xybk", d_rest_share,
  ["{maker} makes {y} {make} an hour for {x} hours. {b} of them are faulty. The good ones are packed in sets of {k}. How many sets are there?",
   "In each of {x} hours {maker} turns out {y} {make}. After {b} are thrown out, the others go into packs of {k}. How many packs does that give?"],
  ["In all {x*y=c} {make} are made.", "Of these {c-b=d} are good.", "They fill {d/k=e} packs."], "e")
T("3-bonushalf", "xyb", d_bonus_half,
  ["{n} earns ${y} a day for {x} days and gets a bonus of ${b}. {He} saves half of the money. How many dollars does {he} save?",
   "For {x} days of work at ${y} a day, plus a tip of ${b}, {n} is paid. {He} gives half of it to {m}. How much money does {m} get?"],
  ["The days bring {x*y=$c}.", "With the extra it is {c+b=$d}.", "Half of that is {d/2=$e}."], "e")
T("3-four", "abef", d_four,
  ["{n} has {a} {o}. {He} {get} {b}, then {lose} {e}, and then {m} brings {f} more. How many {o} does {n} have now?",
   "A box holds {a} {o}. {n} puts in {b}, takes out {e}, and puts in {f} again. How many {o} are in the box?"],
  ["First there are {a+b=c} {o}.", "Then there are {c-e=d} {o}.", "At the end there are {d+f=g} {o}."], "g")
T("3-timesgive", "xyb", lambda r, v: (lambda x, y: (x, y, part(r, y + x * y)))(*mu(r, v)),
  ["{n} has {y} {o} and {m} has {x} times as many. Together they {loses} {b} of them. How many {o} do the two have left?",
   "{m} has {x} times as many {o} as {n}, who has {y}. They put all of them in a bag and take {b} out. How many {o} are in the bag?"],
  ["{m} has {y*x=c} {o}.", "Together they have {y+c=d} {o}.", "In the end there are {d-b=e} {o}."], "e")
T("3-discount", "xybp", d_discount,
  ["{n} orders {x} pieces of a {good} at ${y} each. A coupon takes ${b} off the total. {He} pays with ${p}. How many dollars does {he} get back?",
   "A {good} sells for ${y}. {n} wants {x}, has a voucher worth ${b} and brings ${p}. How much money does {he} have after buying them?"],
  ["The full price is {x*y=$c}.", "With the discount it is {c-b=$d}.", "{n} keeps {p-d=$e}."], "e")
T("3-farm", "a", lambda r, v: (2 * ad(r, v),),
  ["A farm has {a} {an}. It has twice as many {an2}. How many {an} and {an2} are left after half of the {an} are sold?",
   "{n} keeps {a} {an} and double that number of {an2}. Half of the {an} are moved away. How many {an} and {an2} stay?"],
  ["There are {a*2=c} {an2}.", "The {an} left are {a/2=d}.", "Together {c+d=e} animals stay."], "e")
T("3-chain", "ab", d_chain,
  ["{n} has {a} {o}. {m} has twice as many as {n}. {k2} has {b} fewer than {m}. How many {o} do {n} and {k2} have together?",
   "{m} found double the {o} that {n} found, and {k2} found {b} fewer than {m}. {n} found {a}. How many {o} did {n} and {k2} find in all?"],
  ["{m} has {a*2=c} {o}.", "{k2} has {c-b=d} {o}.", "{n} and {k2} have {a+d=e} {o}."], "e")
T("3-book", "xybt", d_book,
  ["{n} reads {y} pages a day for {x} days and {b} pages on {day}. The book has {t} pages. How many pages are left to read?",
   "A road is {t} meters long. A crew paves {y} meters a day for {x} days and then {b} meters more. How many meters still need work?"],
  ["The equal days make {x*y=c}.", "With the rest it is {c+b=d}.", "So {t-d=e} are left."], "e")
T("3-savespend", "axyb", d_save_spend,
  ["{n} has ${a} and saves ${y} a week for {x} weeks. Then {he} spends ${b} on a {good}. How many dollars are left?",
   "There is ${a} in the club's box. Each of {x} members pays in ${y}. A {good} for ${b} is bought. How much money stays in the box?"],
  ["The payments make {x*y=$c}.", "With the start it is {a+c=$d}.", "After buying, {d-b=$e} is left."], "e")
T("3-tworates", "xyuw", d_two_rates,
  ["{n} works {x} days for ${y} a day. {m} works {u} days for ${w} a day. How many dollars more does {n} earn than {m}?",
   "{n} fills {x} {box} with {y} {o} each and {m} fills {u} with {w} each. How many more {o} does {n} use than {m}?"],
  ["{n}'s number is {x*y=c}.", "{m}'s number is {u*w=d}.", "The difference is {c-d=e}."], "e")
T("3-bill", "abfk", d_bill,
  ["{k} {group} rent a boat for ${a}, buy food for ${b} and pay ${f} for fuel. They share the cost equally. How many dollars does each one pay?",
   "A party costs ${a} for the room, ${b} for music and ${f} for cake. {k} {group} split it evenly. How much does each one pay?"],
  ["The first two cost {a+b=$c}.", "All of it costs {c+f=$d}.", "Each one pays {d/k=$e}."], "e")
T("3-stops", "abfh", d_stops,
  ["{ride} carries {a} parcels. At the first stop {b} are taken off and {f} are loaded. At the second stop {h} are taken off. How many parcels are on board now?",
   "{a} people are in the {shop}. {b} leave, {f} come in, and later {h} leave. How many people are in the {shop} now?"],
  ["After the first change there are {a-b=c}.", "After the second there are {c+f=d}.", "After the last there are {d-h=e}."], "e")
T("3-halfsold", "abf", d_half_sold,
  ["{n} has {a} {o}. {He} sells half of them in the morning and {b} in the afternoon, then {get} {f} new ones. How many {o} does {n} have?",
   "Half of the {a} {o} in a store are sold on {day}, {b} more on the next day, and then {f} are delivered. How many {o} are in the store?"],
  ["After the first sale there are {a/2=c} {o}.", "After the second there are {c-b=d} {o}.", "In the end there are {d+f=e} {o}."], "e")
T("3-boxesplus", "txyb", lambda r, v: (lambda p: (p[0] * p[1], p[0], r.range(2, min(9, p[0])), ad(r, v - 1)))(mu(r, v)),
  ["{n} puts {t} {o} into {x} equal piles. {He} gives {y} of the piles to {m}, who already had {b} {o}. How many {o} does {m} have now?",
   "Each of {x} {box} holds the same share of {t} {o}. {m} owns {b} {o} and gets {y} of the {box}. How many {o} does {m} have in all?"],
  ["One share is {t/x=c} {o}.", "{m} gets {c*y=d} {o}.", "{m} has {b+d=e} {o}."], "e")


# ---------------------------------------------------------------- drawing

def reserved(tid, nums):
    """Whether this (template, numbers) pair is kept for evaluation."""
    h = zlib.crc32((tid + "|" + ",".join(map(str, nums))).encode())
    return mix64(h + SEED) % RESERVED_ONE_IN == 0


def draw_level(r, weights=LEVEL_WEIGHTS):
    k = r.below(100)
    for level, w in enumerate(weights):
        if k < w:
            return level
        k -= w


def result(a, op, b):
    return a + b if op == "+" else a - b if op == "-" else a * b if op == "*" else a // b


def written(a, op, b, c, cash=""):
    """A step with its calculator annotation."""
    return f"{a} {op} {b} = {cash}<<{a}{op}{b}={c}>>{c}"


def solve(names, nums, ops, level=0):
    """Every number of a problem by its key, or None where one of them does not make sense."""
    env = dict(zip(names, nums))
    for a, op, b, _, c in ops:
        x, y = env[a], env[b] if b in env else int(b)
        if op == "/" and (y < 1 or x % y):
            return None
        env[c] = result(x, op, y)
    return env if all(0 < z <= LARGEST[level] for z in env.values()) else None


def problem(r, steps, want_reserved, weights=LEVEL_WEIGHTS):
    """Draws one problem: (question, answer, key, level)."""
    level = draw_level(r, weights)
    env = None
    while env is None:  # a template may have no reserved, or no sensible, numbers at some level: then draw another
        tid, names, draw, questions, text, ops, last = r.pick(TEMPLATES[steps])
        for _ in range(200):
            nums = draw(r, level)
            if min(nums) > 0 and reserved(tid, nums) == want_reserved:
                env = solve(names, nums, ops, level)
                if env is not None:
                    break
    # words: two or three people, all different; everything else independent
    i = r.below(48)
    j = (i + 1 + r.below(46)) % 48
    f = (max(i, j) + 1) % 48
    if f == min(i, j):
        f = (f + 1) % 48
    people = SHE + HE
    she = i < 24
    env["n"], env["m"], env["k2"] = people[i], people[j], people[f]
    env["he"], env["He"], env["his"] = ("she", "She", "her") if she else ("he", "He", "his")
    env["o"] = r.pick(THINGS)
    env["box"] = r.pick(HOLDERS)
    env["shop"] = r.pick(SHOPS)
    env["good"] = r.pick(GOODS)
    env["get"] = r.pick(GETS)
    lose = r.below(len(LOSES))
    env["lose"] = LOSES[lose]
    env["loses"] = ("lose", "sell", "throw away", "donate", "give away", "break")[lose]
    env["group"] = r.pick(GROUPS)
    env["day"] = r.pick(DAYS)
    env["ride"] = r.pick(RIDES)
    env["maker"] = r.pick(MAKERS)
    env["make"] = r.pick(MAKES)
    k = r.below(8)
    env["an"], env["an2"] = ANIMALS[k], ANIMALS[(k + 1 + r.below(7)) % 8]
    template = r.pick(questions)
    if not template.startswith("{ride}"):
        env["ride"] = env["ride"].lower()
    if not template.startswith("{maker}"):
        env["maker"] = env["maker"].lower()
    for s, (a, op, b, cash, c) in enumerate(ops):
        env["_%d" % s] = written(env[a], op, env.get(b, b), env[c], cash)
    answer = text.format_map(env) + f"\n#### {env[last]}"
    return template.format_map(env), answer, (tid, nums), level


def stream(number, want_reserved, weights=LEVEL_WEIGHTS):
    """An endless stream of problems, one, two and three steps in turn."""
    r = Rng(SEED, number)
    i = 0
    while True:
        yield problem(r, i % 3 + 1, want_reserved, weights)
        i += 1


def take(number, want_reserved, count, part, weights=LEVEL_WEIGHTS):
    """The first `count` problems of a stream in which that part (0 question, 2 key) is new; one, two and three steps in turn."""
    r = Rng(SEED, number)
    seen, out = set(), []
    while len(out) < count:
        p = problem(r, len(out) % 3 + 1, want_reserved, weights)
        if p[part] not in seen:
            seen.add(p[part])
            out.append(p)
    return out


def test_set():
    return take(STREAM_TEST, True, N_TEST, 2)


def train_set():
    return take(STREAM_TRAIN, False, N_TRAIN, 0)


def main():
    import hashlib

    import pyarrow as pa
    import pyarrow.parquet as pq

    here = Path(__file__).resolve().parent
    train, test = train_set(), test_set()
    assert not {p[0] for p in train} & {p[0] for p in test}
    assert not {p[2] for p in train} & {p[2] for p in test}
    schema = pa.schema([("question", pa.string()), ("answer", pa.string())])
    for name, rows in (("train", train), ("test", test)):
        table = pa.table({"question": [p[0] for p in rows], "answer": [p[1] for p in rows]}, schema=schema)
        path = here / f"{name}.parquet"
        pq.write_table(table, path, compression="snappy")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"{digest}  {name}.parquet  ({len(rows)} problems, {path.stat().st_size} bytes)")


if __name__ == "__main__":
    sys.exit(main())
