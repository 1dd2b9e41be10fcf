"""One measurement, in a process of its own: `python measure.py ROW LIBRARY` prints one number.
Started by bench.py.
"""

if __name__ == '__main__':
    # Not above: children import this file, and what they import is not what is measured.
    import sys

    import rows

    row, library = sys.argv[1:]
    print(next(each for each in rows.ROWS if each.name == row).measure(library))
