"""Eight programs as users write them, with the names that `multiprocessing` has. Each takes a
context, checks what it has computed, and is measured as a whole: the start of its processes, its
work, its end. Imported in the process of one measurement, and by its forked children.

Sizes are such that each program takes about a second on two cores.
"""

import collections
import os

WORKERS = 2


def grid_search(context):
    """Fits a ridge regression for each strength and fold; each task is given the whole data."""
    import numpy

    samples, features, folds = 100_000, 16, 4
    random = numpy.random.default_rng(1)
    data = random.normal(size=(samples, features))
    target = data @ random.normal(size=features) + random.normal(size=samples)
    grid = [(data, target, 10.0**power, fold, folds) for power in range(-2, 6) for fold in range(folds)]
    with context.Pool(WORKERS) as pool:
        errors = pool.starmap(_ridge_error, grid, chunksize=1)
    means = numpy.array(errors).reshape(-1, folds).mean(axis=1)
    assert means.argmin() < len(means) - 1 and means[-1] > means.min()


def _ridge_error(data, target, strength, fold, folds):
    import numpy

    held = numpy.arange(len(data)) % folds == fold
    known, wanted = data[~held], target[~held]
    weights = numpy.linalg.solve(known.T @ known + strength * numpy.eye(known.shape[1]), known.T @ wanted)
    return float(((data[held] @ weights - target[held]) ** 2).mean())


def images(context):
    """Corrects the contrast of photographs; images travel both ways."""
    import numpy

    photograph = numpy.random.default_rng(2).integers(20, 200, size=(1600, 2400, 3), dtype='u1')
    with context.Pool(WORKERS) as pool:
        bright = pool.map(_stretch, [photograph] * 32, chunksize=1)
    assert all((each.min(), each.max()) == (0, 255) for each in bright)


def _stretch(photograph):
    import numpy

    low, high = int(photograph.min()), int(photograph.max())
    table = numpy.interp(numpy.arange(256), [low, high], [0, 255]).astype('u1')
    return table[photograph]


def groups(context):
    """Sums sales by shop and by product with pandas; each worker is given the table of a month."""
    import numpy
    import pandas

    rows = 500_000
    random = numpy.random.default_rng(3)
    january = pandas.DataFrame(
        {
            'shop': random.integers(0, 50, rows),
            'product': random.integers(0, 20, rows),
            'price': random.random(rows),
        }
    )
    months = [january.assign(price=january.price * growth) for growth in numpy.linspace(1, 2, 12)]
    with context.Pool(WORKERS) as pool:
        sums = pandas.concat(pool.imap_unordered(_sums, months)).groupby(level=[0, 1]).sum()
    assert len(sums) == 50 * 20 and abs(sums.price.sum() / january.price.sum() - 18) < 1e-6


def _sums(table):
    return table.groupby(['shop', 'product'])[['price']].sum()


def monte_carlo(context):
    """Prices options by simulation; workers read and write arrays that all of them share."""
    import numpy

    strikes = context.Array('d', 48, lock=False)
    prices = context.Array('d', 48, lock=False)
    numpy.frombuffer(strikes)[:] = numpy.linspace(80, 120, 48)
    with context.Pool(WORKERS, _share, (strikes, prices)) as pool:
        pool.map(_price, range(48), chunksize=1)
    found = numpy.frombuffer(prices)
    assert (found > 0).all() and found[0] > found[-1]


_shared = None


def _share(*arrays):
    global _shared
    _shared = arrays


def _price(place):
    import numpy

    strikes, prices = _shared
    ends = 100 * numpy.exp(0.2 * numpy.random.default_rng(place).normal(size=1_500_000) - 0.02)
    prices[place] = float(numpy.maximum(ends - strikes[place], 0).mean())


def sources(context):
    """Parses the standard library's sources and counts its functions; only names travel."""
    import pathlib

    paths = [str(path) for path in sorted(pathlib.Path(os.__file__).parent.glob('*.py'))]
    with context.Pool(WORKERS) as pool:
        counts = list(pool.imap_unordered(_count_functions, paths, chunksize=4))
    assert len(counts) == len(paths) and sum(counts) > 1000


def _count_functions(path):
    import ast

    with open(path, 'rb') as file:
        return sum(isinstance(node, ast.FunctionDef) for node in ast.walk(ast.parse(file.read())))


def text(context):
    """Counts the words of a text; parts of it go to workers, and their counts come back."""
    parts = [_page(number) for number in range(200)]
    total = collections.Counter()
    with context.Pool(WORKERS) as pool:
        for words in pool.imap_unordered(_count_words, parts, chunksize=2):
            total.update(words)
    assert total.total() == sum(len(part.split()) for part in parts)


def _page(number):
    return ' '.join(f'word{(number * 31 + place * place) % 5003}' for place in range(16_000))


def _count_words(part):
    import re

    return collections.Counter(word.lower() for word in re.findall(r'\w+', part))


def transforms(context):
    """Filters signals by numpy's FFT; large arrays travel both ways."""
    import numpy

    signal = numpy.random.default_rng(4).normal(size=1 << 20)
    with context.Pool(WORKERS) as pool:
        smooth = list(pool.imap(_smooth, [signal] * 32))
    assert all(each.shape == signal.shape for each in smooth) and numpy.abs(smooth[0]).max() < numpy.abs(signal).max()


def _smooth(signal):
    import numpy

    spectrum = numpy.fft.rfft(signal)
    spectrum[len(spectrum) // 8 :] = 0
    return numpy.fft.irfft(spectrum, len(signal))


def pipeline(context):
    """Has records parsed by one process and summed by another, with queues between."""
    number = 40_000
    lines, records, totals = context.Queue(1000), context.Queue(1000), context.Queue()
    stages = [context.Process(target=_parse, args=(lines, records)), context.Process(target=_total, args=(records, totals))]
    for stage in stages:
        stage.start()
    for place in range(number):
        lines.put(f'{{"user": {place % 100}, "amount": {place}}}')
    lines.put(None)
    total = totals.get()
    for stage in stages:
        stage.join()
    assert sum(total.values()) == sum(range(number)) and len(total) == 100


def _parse(lines, records):
    import json

    while (line := lines.get()) is not None:
        records.put(json.loads(line))
    records.put(None)


def _total(records, totals):
    total = collections.Counter()
    while (record := records.get()) is not None:
        total[record['user']] += record['amount']
    totals.put(dict(total))
