"""`lumirkit bench` measures the time and the memory that the kit's works take on this machine.

Every work is measured in a process of its own (`child`), so that its peak memory is its own. For comparison the same
run measures the machine's rates (`floor`) and, where a checkout of it is given, the public SITReg code.
"""
