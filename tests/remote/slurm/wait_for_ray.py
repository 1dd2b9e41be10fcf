"""Waits until a Ray cluster has as many processors as the argument says."""

import sys
import time

import ray

ray.init()
while ray.cluster_resources().get('CPU', 0) < int(sys.argv[1]):
    time.sleep(0.2)
