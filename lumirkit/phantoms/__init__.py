"""Brain-like images and datasets made from random numbers: for the demo, the tests, and examinations of an image."""
