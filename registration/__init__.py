"""What a registration is: fields, splines, inverses, the network, its weights. Knows no challenge and no training."""

import os

# Tensors of hundreds of megabytes come and go; on pages of 4 KB the system spends more time on handing them out than
# the arithmetic takes. Torch reads this at its first large allocation; without huge pages nothing changes.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
