"""Penstock runs flows on Dask, Ray or the local machine and never computes the same thing twice.

Layers, from the top; imports only go down:

    cli                              the command line
    reports  testing                 what a run leaves to look at; conformance suites for implementations
    flows  tasks                     @flow and @task as users see them
    runs                             ties the parts together for one run
    environments  journals           where a run happens, and its written trace
    runners                          engines, and the one loop that drives them
    transactions                     the one part that needs both storage and locks
    locks                            one execution is likely
    storage | graph                  one result is certain | what would be computed, under which key
    settings  events  clocks  runtime  errors
"""

__version__ = "0.1.0"
