"""`lumirkit bench`: how long the kit's works take on this machine, and how much memory, against what could be expected.

Every work is measured in a process of its own (`child`), so that its peak memory is its own. What could be expected is
measured in the same run: the machine's rates (`floor`) and, where a checkout of it is given, the public SITReg code.
"""
