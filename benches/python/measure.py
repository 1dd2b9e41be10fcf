"""One measurement, in a process of its own: `python measure.py ROW LIBRARY` prints one number.
Started by bench.py.
"""

if __name__ == '__main__':
    # Not at the top: children import this file, and their imports must not be measured.
    import sys

    import rows

    row, library = sys.argv[1:]
    print(next(each for each in rows.ROWS if each.name == row).measure(library))
