"""The measurements: a table for people, a file for machines, and a picture."""

import dataclasses
import json
import os
import platform
import statistics

OURS, THEIRS = 'procession', 'multiprocessing'
COLOURS = ('crimson', 'black', 'tab:orange', 'tab:green', 'tab:blue', 'tab:purple', 'tab:brown')
SHORT = {'multiprocessing': 'multiproc.', 'ProcessPoolExecutor': 'futures', 'InterpreterPoolExecutor': 'interpreters'}


@dataclasses.dataclass
class Measured:
    """A row and the figures of each library, turn by turn."""

    row: object
    runs: dict

    def median(self, library):
        return statistics.median(self.runs[library]) if self.runs.get(library) else None

    def ratios(self, library=OURS):
        """Returns, for each turn, the ratio of this library's figure to the row's rival's."""
        theirs = self.runs.get(self.row.rival, [])
        return [mine / other for mine, other in zip(self.runs.get(library, []), theirs) if other]

    def is_met(self):
        """Returns whether the bound is met; None if there is none."""
        figure = self._bounded()
        if self.row.must is None:
            return None
        if figure is None:
            return False
        sign, bound = self.row.must
        return figure >= bound if sign == '>=' else figure <= bound

    def _bounded(self):
        if self.row.of == 'ours':
            return self.median(OURS)
        return statistics.median(self.ratios()) if self.ratios() else None


def print_table(measured, libraries):
    heads = ''.join(f'{SHORT.get(library, library):>12}' for library in libraries)
    print(f'\n{"what":<34}{"unit":>8}{heads}{"ratio":>9}{"min..max":>15}{"must":>22}  met')
    for each in measured:
        figures = ''.join(f'{_figure(each.median(library)):>12}' for library in libraries)
        ratios = each.ratios()
        ratio = f'{statistics.median(ratios):.3g}' if ratios else '-'
        spread = f'{min(ratios):.3g}..{max(ratios):.3g}' if ratios else '-'
        print(f'{each.row.what:<34}{each.row.unit:>8}{figures}{ratio:>9}{spread:>15}{_must(each.row):>22}  {_MET[each.is_met()]}')
    print('\nratio: ours to multiprocessing, or to whom must says; must: of the ratio, or of our own figure where it says so')


def write(measured, path):
    """Writes every run of every row, as JSON."""
    rows = []
    for each in measured:
        row = {name: getattr(each.row, name) for name in ('name', 'what', 'unit', 'must', 'of', 'rival')}
        rows.append(row | {'runs': each.runs, 'ratios': each.ratios(), 'met': each.is_met()})
    machine = {'python': platform.python_version(), 'cores': len(os.sched_getaffinity(0)), 'kernel': platform.release()}
    path.write_text(json.dumps({'machine': machine, 'rows': rows}, indent=1) + '\n')
    return path


def plot(measured, path):
    """Draws how many times better than multiprocessing each library is, row by row."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    drawn = [each for each in measured if each.row.rival == THEIRS and each.ratios() and all(each.ratios())]
    figure, axes = pyplot.subplots(figsize=(9, 0.42 * len(drawn) + 1.6), layout='constrained')
    names = dict.fromkeys(name for each in drawn for name in each.runs)
    for library, marker, colour in zip(names, 'os^vDPX', COLOURS):
        points = []
        for place, each in enumerate(drawn):
            ratios = [ratio for ratio in each.ratios(library) if ratio]
            if ratios:
                ratio = statistics.median(ratios)
                points.append((ratio if each.row.is_rate else 1 / ratio, place))
        strong = library == OURS
        axes.plot(
            *zip(*points),
            marker,
            label=library,
            markersize=9 if strong else 6,
            zorder=3 if strong else 2,
            color=colour,
            alpha=1 if strong else 0.8,
        )
    axes.set_yticks(range(len(drawn)), [each.row.what for each in drawn])
    axes.invert_yaxis()
    axes.set_xscale('log')
    axes.axvline(1, color='grey', linewidth=1)
    axes.grid(axis='x', which='both', linewidth=0.3)
    axes.set_xlabel('times better than multiprocessing')
    figure.legend(loc='outside lower center', ncols=4, frameon=False)
    figure.savefig(path, dpi=130)
    return path


_MET = {None: '-', True: 'yes', False: 'NO'}


def _must(row):
    if row.must is None:
        return '-'
    sign, bound = row.must
    rival = '' if row.of == 'ours' or row.rival == THEIRS else f' of {SHORT.get(row.rival, row.rival)}'
    return f'{"ours " if row.of == "ours" else ""}{sign} {bound:g}{rival}'


def _figure(value):
    if value is None:
        return '-'
    return f'{value:,.0f}' if value >= 1000 else f'{value:.3g}'
