# Each target makes what it needs; the first creates the environment in .venv.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
WEIGHTS ?= submission/weights
BASE_IMAGE ?=
LEAST_COVERED ?= 90
IMAGE ?= lumirkit

.PHONY: demo test coverage lint docs bench gpu image clean

demo: $(VENV)/installed
	$(RUN)/lumirkit demo --out runs/demo

test: lint $(VENV)/baselines
	$(RUN)/pytest -n auto --dist loadfile -m "not docker and not gpu"

# The tests again, with the lines and branches that they reach; LEAST_COVERED percent must be.
coverage: $(VENV)/baselines
	$(RUN)/pytest -n auto --dist loadfile -m "not docker and not gpu" --cov --cov-report=term --cov-fail-under=$(LEAST_COVERED)

lint: $(VENV)/installed
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy

docs: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build

bench: $(VENV)/installed
	$(RUN)/lumirkit bench scoring --out runs/bench/scoring
	$(RUN)/lumirkit bench forward --size 80x112x96 --repeats 3 --out runs/bench/forward
	$(RUN)/lumirkit bench step --size 40x56x48 --repeats 3 --out runs/bench/step

# On a machine with a GPU: the tests that need one, ten steps of each stage of the full-size recipe on made images, and
# the time of everything at full size beside plain torch. GPU_BENCH narrows what is timed.
GPU_BENCH ?= --convolutions float32 --convolutions bfloat16 --plain
gpu: $(VENV)/installed
	$(RUN)/pytest -m gpu
	$(RUN)/lumirkit bench training --device cuda --out runs/gpu
	$(RUN)/lumirkit bench all --device cuda $(GPU_BENCH) --out runs/gpu
	cat runs/gpu/training.md

image: $(VENV)/installed
	$(RUN)/lumirkit container build --weights $(WEIGHTS) --tag $(IMAGE) $(if $(BASE_IMAGE),--base-image $(BASE_IMAGE))

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	rm -rf $(VENV)/lib/python3.*/site-packages/lumirkit # compiled kernels of a plain `pip install .`, which would hide the clone
	$(RUN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

# The reference methods and the finders of brains are extras of 0.8 GB, which only their tests need.
$(VENV)/baselines: $(VENV)/installed
	$(RUN)/pip install --quiet --constraint constraints.txt --editable ".[dev,baselines,prepare,hd-bet]"
	touch $@

clean:
	rm -rf $(VENV) runs build *.egg-info
