"""Sample: the CPU that it takes to import the modules named, in an interpreter with none."""

import sys
import time

began = time.process_time()
for name in sys.argv[1:]:
    __import__(name)
cpu = time.process_time() - began

if __name__ == "__main__":
    print(f'{{"cpu": {cpu * 1000}}}')
