"""Log records of workers go through the handlers of their parent. Run `python log_home.py
[fork|spawn|forkserver]`.
"""

import logging
import sys

import procession as mp

log = logging.getLogger('shop')


def sell(item):
    log.info('sold %s', item)
    if item == 'nothing':
        try:
            raise LookupError(item)
        except LookupError:
            log.exception('not in stock')


if __name__ == '__main__':
    if sys.argv[1:]:
        mp.set_start_method(sys.argv[1])
    logging.basicConfig(format='%(levelname)s of worker %(worker)s: %(message)s', stream=sys.stdout)
    log.setLevel(logging.INFO)
    with mp.Pool(1, logs=True) as pool:
        pool.map(sell, ['apples', 'nothing'])
