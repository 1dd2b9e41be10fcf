"""Two start methods side by side in one program: contexts have the whole API, each bound to one
method.
"""

import procession as mp


def hello(queue, name):
    queue.put(f'hello from {name}')


if __name__ == '__main__':
    for method in 'spawn', 'fork':
        context = mp.get_context(method)
        queue = context.Queue()
        process = context.Process(target=hello, args=(queue, method))
        process.start()
        print(queue.get())
        process.join()
