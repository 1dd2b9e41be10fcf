"""A program whose children print."""

import sys

import procession


def say(text):
    print(text)


if __name__ == '__main__':
    ctx = procession.get_context()
    with ctx.Pool(1, output='prefix') as pool:
        pool.map(say, ['one', 'two'], chunksize=1)
        pool.close()
        pool.join()
    process = ctx.Process(target=say, args=('three',), name='quiet one', output='prefix')
    process.start()
    process.join()
    sys.exit(process.exitcode)
