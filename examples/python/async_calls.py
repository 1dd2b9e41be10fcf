"""Calls that are awaited in asyncio, and cancelled. Run
`python async_calls.py [fork|spawn|forkserver]`.
"""

import asyncio
import sys
import time

import procession as mp


def square(number):
    return number * number


async def main():
    async with mp.Pool(1) as pool:
        print(await pool.apply_async(square, (7,)))
        print([value async for value in pool.imap(square, range(5))])
        try:
            await asyncio.wait_for(pool.apply_async(time.sleep, (1000,)), 0.1)
        except TimeoutError:
            print('given up, and the only worker is free:', await pool.apply_async(square, (8,)))

    queue = mp.Queue()
    await queue.aput('an item')
    print(await queue.aget())


if __name__ == '__main__':
    if sys.argv[1:]:
        mp.set_start_method(sys.argv[1])
    asyncio.run(main())
