# Every target builds what it needs first and can be run again. Set variables on the command line: make eval-zeroshot PROFILE=full DATA=/data
PROFILE ?= mini## mini (generated data, small CLIP, minutes on a CPU) or full (the papers' recipe)
DATA ?=## folder that holds the data sets; empty in the mini profile = the generated mini-world
RUNS ?= runs/$(PROFILE)$(if $(filter-out 0,$(SEED)),-seed$(SEED))## where results and checkpoints go; default: runs/PROFILE, with -seedN behind it for another SEED than 0
CLIP ?=## open_clip model; default: clip2x-small in mini, ViT-B-32-quickgelu in full
PRETRAINED ?=## open_clip tag or weight file; default: the one that pretrain-clip makes, openai in full
CHECKPOINT ?=## depth encoder to evaluate beside plain CLIP; default: the one that pretrain-depth makes; none = without
POINTS ?=## point encoder to evaluate; default: the one that pretrain-points makes; none = without
TUNED ?=## depth encoder tuned on triplets to evaluate; default: the one that tune-depth makes, if it is there; none = without
ADAPTED ?=## adapter to evaluate as a supervised line, e.g. runs/mini/adapt/adapter.safetensors; default: none
EVAL ?=## data sets to evaluate, manifest/variant/split, separated by commas, e.g. modelnet10/off/test
DETECTIONS ?=## COCO files of 2-D boxes by any other program, separated by commas, in the place of the profile's detector
VOCABULARY ?=## what boxes are named by: lvis, mini, a file, or manifest:NAME; default: mini in mini, lvis in full or with DETECTIONS
STORE ?= $(RUNS)/collect_proxies## folder of the triplets
SHARD ?=## part of the models that this machine renders, e.g. 1/4; default: all
SEED ?= 0## seed of the generated data, of training and of sampling
ARGS ?=## any Lightning CLI arguments, e.g. "--trainer.precision 32-true"
WORKERS ?= $(shell cores=$$(nproc 2>/dev/null || echo 1); [ $$cores -gt 4 ] && echo 4 || echo $$cores)## processes of the test suite; default: all cores, at most 4
PYTHON ?= python3## the Python (>= 3.11) that the environment is made with

.PHONY: help setup test test-all chaos lint check bench docs doctor miniworld pretrain-clip render-pairs pretrain-depth collect-proxies embed-proxies pretrain-points tune-depth eval-zeroshot few-shot adapt report clean
.DEFAULT_GOAL := help
comma := ,
BIN := .venv/bin
LIBRARIES := libegl1 libgl1 libx11-6 libusb-1.0-0 libidn2-0 libudev1
STAMP := .venv/.installed
MINI := $(if $(filter full,$(PROFILE)),runs/mini,$(RUNS))
DEPTH := $(RUNS)/pretrain_depth/depth_encoder.safetensors
TUNED_DEPTH := $(RUNS)/tune_depth/depth_encoder.safetensors
POINT := $(RUNS)/pretrain_points/point_encoder.safetensors
SMALL_CLIP := $(MINI)/pretrain_clip/clip.safetensors
MINIWORLD := $(MINI)/miniworld/miniworld.json

# GOAL_DATA, GOAL_ARGS: what the command line asks of the stage that it names; stages that are only made on the way keep their own.
GOAL_DATA = $(if $(filter $(1),$(MAKECMDGOALS)),$(DATA))
GOAL_ARGS = $(if $(filter $(1),$(MAKECMDGOALS)),$(ARGS))

TUNED_FOUND = $(if $(filter tune-depth,$(MAKECMDGOALS)),$(TUNED_DEPTH),$(or $(wildcard $(TUNED_DEPTH)),none))
ifeq ($(PROFILE),mini)
CONFIG = --config stages/$(1).yaml --config stages/mini/$(1).yaml
MODEL := $(or $(CLIP),clip2x-small)
WEIGHTS := $(or $(PRETRAINED),$(SMALL_CLIP))
WEIGHTS_NEEDS := $(if $(PRETRAINED),,$(SMALL_CLIP))
TRAIN_DATA = $(or $(call GOAL_DATA,pretrain-depth pretrain-points tune-depth render-pairs),$(MINI)/miniworld)
EVAL_DATA := $(or $(DATA),$(MINI)/miniworld)
EVAL_NEEDS := $(if $(DATA),,$(MINIWORLD))
# with another CLIP the checkpoint of the small one would not fit
DEPTH_CHECKPOINT := $(or $(CHECKPOINT),$(if $(PRETRAINED),none,$(DEPTH)))
POINT_CHECKPOINT := $(or $(POINTS),$(if $(PRETRAINED),none,$(POINT)))
TUNED_CHECKPOINT = $(or $(TUNED),$(if $(PRETRAINED),none,$(TUNED_FOUND)))
ifneq ($(filter-out clip2x-small,$(CLIP)),)
$(if $(PRETRAINED),,$(error CLIP=$(CLIP) needs PRETRAINED too: an open_clip tag, e.g. openai, or a weight file))
endif
else ifeq ($(PROFILE),full)
CONFIG = --config stages/$(1).yaml
MODEL := $(or $(CLIP),ViT-B-32-quickgelu)
WEIGHTS := $(or $(PRETRAINED),openai)
WEIGHTS_NEEDS :=
TRAIN_DATA := $(or $(DATA),data)
EVAL_DATA := $(or $(DATA),data)
EVAL_NEEDS :=
DEPTH_CHECKPOINT := $(or $(CHECKPOINT),$(if $(filter pretrain-depth,$(MAKECMDGOALS)),$(DEPTH),$(wildcard $(DEPTH))),none)
POINT_CHECKPOINT := $(or $(POINTS),$(if $(filter pretrain-points,$(MAKECMDGOALS)),$(POINT),$(wildcard $(POINT))),none)
TUNED_CHECKPOINT = $(or $(TUNED),$(TUNED_FOUND))
else
$(error PROFILE is '$(PROFILE)'; it must be mini or full)
endif
COLLECT_DATA = $(or $(call GOAL_DATA,collect-proxies),$(if $(filter full,$(PROFILE)),$(EVAL_DATA),$(MINI)/miniworld))
COLLECT_NEEDS = $(if $(filter $(MINI)/miniworld,$(COLLECT_DATA)),$(MINIWORLD))
MINI_PAIRS := $(MINI)/miniworld/shapenet/rendering/rendering.json
ifneq ($(DETECTIONS),)
DETECTOR_ARGS := --model.vocabulary $(or $(VOCABULARY),lvis) --model.detector CocoDetections --model.detector.files '[$(DETECTIONS)]' \
  --model.detector.suppression '{min_score: 0.0, min_side_px: 10.0}'
else
DETECTOR_ARGS := $(if $(VOCABULARY),--model.vocabulary $(VOCABULARY)) $(if $(filter mini,$(PROFILE)),--model.detector.clip.model $(MODEL) \
  --model.detector.clip.pretrained $(WEIGHTS) \
  --model.detector.proposals.files '[$(MINI)/miniworld/detections/nuscenes_boxes.json$(comma)$(MINI)/miniworld/detections/sunrgbd_boxes.json]')
endif
ifneq ($(and $(filter mini,$(PROFILE)),$(filter collect-proxies,$(MAKECMDGOALS)),$(DATA)),)
$(if $(DETECTIONS),,$(error the mini profile has boxes of its own mini-world only; with DATA=$(DATA) give DETECTIONS too, or PROFILE=full))
endif
CLIP_ARGS := --model.clip.model $(MODEL) --model.clip.pretrained $(WEIGHTS)

help:  ## list the targets and variables
	@echo "Targets:"; sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  \1|\2/p' Makefile | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'
	@echo "Variables:"; sed -n 's/^\([A-Z]*\) ?= *\([^#]*\)## *\(.*\)/  \1|\3|\2/p' Makefile | awk -F'|' '{printf "%-18s %s%s\n", $$1, $$2, $$3 == "" || $$3 ~ /[(]/ ? "" : " [" $$3 "]"}'

setup: $(STAMP)  ## build .venv once, with system libraries for Open3D

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python >= 3.11 is needed, $(PYTHON) is $$($(PYTHON) -V); use make PYTHON=python3.12"; exit 1; }
	@missing=""; for library in $(LIBRARIES); do dpkg-query -W -f='$${Status}' $$library 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$library"; done; \
	$(PYTHON) -c 'import ensurepip' 2>/dev/null || missing="$$missing python3-venv"; \
	if [ -n "$$missing" ] && command -v apt-get >/dev/null; then \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	  else echo "system packages are missing; run: sudo apt-get install -y$$missing"; fi; fi
	$(PYTHON) -m venv .venv
	@echo "installing Python packages (several GB with CUDA; a few minutes)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt uv 2>/dev/null && $(BIN)/uv pip install -q --python $(BIN)/python -c constraints.txt -e '.[dev]' \
	|| $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

test: $(STAMP)  ## the test suite (offline, CPU)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

test-all: $(STAMP)  ## the test suite with the slow tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not gpu"

chaos: $(STAMP)  ## 10,000 bad files for every reader, kills, full disks, dying processes; prints what was lost (must be 0), about an hour
	$(BIN)/python -m pytest tests/bad_files tests/faults -m "not gpu" -p no:cacheprovider --jaxtyping-packages= --bad-files 10000 --faults 20 \
	  --chaos-seed $(SEED) $(ARGS)

lint: $(STAMP)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint test  ## lint and test

bench: $(STAMP) $(if $(DATA),,$(MINI_PAIRS))  ## speed of the parts that matter, with their floors, into benchmarks/results.md; goes on where it was stopped
	$(BIN)/python benchmarks/run.py --root $(or $(DATA),$(MINI)/miniworld) $(ARGS)

docs: $(STAMP)  ## these pages, the notebook and the Python interface as a site: docs/_build/html/index.html
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "site: docs/_build/html/index.html"

doctor: $(STAMP)  ## versions, devices, what is missing
	@$(BIN)/clip2x doctor

miniworld: $(MINIWORLD)  ## generate the data of the mini profile

# Asked every time: the command leaves a finished mini-world of this seed and this code as it is.
$(MINIWORLD): FORCE | $(STAMP)
	@$(BIN)/clip2x miniworld --root $(MINI)/miniworld --seed $(SEED)

FORCE:

pretrain-clip: $(SMALL_CLIP)  ## train the small CLIP of the mini profile
	@echo "small CLIP: $(SMALL_CLIP) (delete it to train again)"

$(SMALL_CLIP): $(MINIWORLD)
	$(BIN)/python -m stages fit --config stages/pretrain_clip.yaml --seed_everything $(SEED) --data.root $(MINI)/miniworld --data.seed $(SEED) \
	  --model.output $@ --trainer.logger.save_dir $(MINI)/pretrain_clip --trainer.callbacks.dirpath $(MINI)/pretrain_clip/checkpoints \
	  --ckpt_path last $(call GOAL_ARGS,pretrain-clip)

render-pairs: $(if $(filter $(MINI)/miniworld,$(TRAIN_DATA)),$(MINI_PAIRS),$(STAMP))  ## draw ten pictures of every ShapeNet model; what is drawn stays
	$(if $(filter $(MINI)/miniworld,$(TRAIN_DATA)),@echo "pictures: $(dir $(MINI_PAIRS))",\
	$(BIN)/clip2x render-pairs --root $(TRAIN_DATA) $(if $(SHARD),--shard $(SHARD)) $(call GOAL_ARGS,render-pairs))

# Asked every time, as the mini-world is: pictures that are there stay.
$(MINI_PAIRS): $(MINIWORLD) FORCE
	@$(BIN)/clip2x render-pairs --root $(MINI)/miniworld --size 64 --seed $(SEED)

ifneq ($(and $(filter pretrain-depth,$(MAKECMDGOALS)),$(ARGS),$(wildcard $(DEPTH))),)
$(error $(DEPTH) is there already, so ARGS would have no effect; delete its folder, or train beside it with python -m stages (docs/pretrain_depth.md, Switches))
endif

pretrain-depth: $(DEPTH)  ## CLIP2Point: train a depth encoder on pairs of picture and depth views against frozen CLIP
	@echo "depth encoder: $(DEPTH) (delete $(RUNS)/pretrain_depth to train again)"

# Pictures are order-only: a checkpoint is not trained again for a newer time stamp.
$(DEPTH): $(WEIGHTS_NEEDS) | $(STAMP) $(if $(filter $(MINI)/miniworld,$(TRAIN_DATA)),$(MINI_PAIRS))
	$(BIN)/python -m stages fit $(call CONFIG,pretrain_depth) --seed_everything $(SEED) --data.root $(TRAIN_DATA) --data.seed $(SEED) $(CLIP_ARGS) \
	  --model.output $@ $(if $(filter mini,$(PROFILE)),--model.image_feature_cache $(RUNS)/image_features) \
	  --trainer.logger.save_dir $(RUNS)/pretrain_depth $(call GOAL_ARGS,pretrain-depth)

collect-proxies: $(COLLECT_NEEDS) $(WEIGHTS_NEEDS) $(STAMP)  ## CLIP2: mine text-image-point triplets from frames, with a quality report
	$(call COLLECT,$(ARGS))

define COLLECT
	$(BIN)/python -m stages predict $(call CONFIG,collect_proxies) --seed_everything $(SEED) --data.root $(COLLECT_DATA) --data.seed $(SEED) \
	  --model.output $(STORE) --model.seed $(SEED) --model.embed.model $(MODEL) --model.embed.pretrained $(WEIGHTS) $(DETECTOR_ARGS) $(1)
	$(BIN)/clip2x report-proxies $(STORE) --root $(COLLECT_DATA)
endef

# A store that is there is used as it is; collect-proxies goes on with one that is not finished.
$(STORE)/index.json: $(COLLECT_NEEDS) $(WEIGHTS_NEEDS) | $(STAMP)
	$(call COLLECT)

ifneq ($(and $(filter pretrain-points,$(MAKECMDGOALS)),$(ARGS),$(wildcard $(POINT))),)
$(error $(POINT) is there already, so ARGS would have no effect; delete its folder, or train beside it with python -m stages (docs/pretrain_points.md, Switches))
endif

pretrain-points: $(POINT)  ## CLIP2: train a point encoder on the triplets against frozen CLIP's texts and pictures; collects them first
	@echo "point encoder: $(POINT) (delete $(RUNS)/pretrain_points to train again)"

$(POINT): $(WEIGHTS_NEEDS) | $(STAMP) $(STORE)/index.json $(if $(filter $(MINI)/miniworld,$(TRAIN_DATA)),$(MINI_PAIRS))
	$(BIN)/python -m stages fit $(call CONFIG,pretrain_points) --seed_everything $(SEED) --data.root $(TRAIN_DATA) --data.seed $(SEED) $(CLIP_ARGS) \
	  --model.output $@ --data.train.stores '[$(STORE)]' --data.val.stores '[$(STORE)]' $$(test -f $(DEPTH) && echo --model.ensemble_with $(DEPTH)) \
	  $(if $(filter mini,$(PROFILE)),--model.image_feature_cache $(RUNS)/image_features) \
	  --trainer.logger.save_dir $(RUNS)/pretrain_points $(call GOAL_ARGS,pretrain-points)

tune-depth: $(TUNED_DEPTH)  ## CLIP2Point with proxies: tune the depth encoder on the same triplets
	@echo "depth encoder: $(TUNED_DEPTH) (delete $(RUNS)/tune_depth to tune again)"

$(TUNED_DEPTH): $(WEIGHTS_NEEDS) | $(STAMP) $(STORE)/index.json $(DEPTH)
	$(BIN)/python -m stages fit $(call CONFIG,pretrain_points) --config stages/tune_depth.yaml $(if $(filter mini,$(PROFILE)),--config stages/mini/tune_depth.yaml) \
	  --seed_everything $(SEED) --data.root $(TRAIN_DATA) --data.seed $(SEED) $(CLIP_ARGS) --model.tuned $(DEPTH) --model.output $@ \
	  --data.train.stores '[$(STORE)]' --data.val.stores '[$(STORE)]' --model.image_feature_cache $(RUNS)/image_features \
	  --trainer.logger.save_dir $(RUNS)/tune_depth $(call GOAL_ARGS,tune-depth)

embed-proxies: $(WEIGHTS_NEEDS) $(STAMP)  ## add the embeddings of another CLIP (CLIP=, PRETRAINED=) to the triplets in STORE
	$(BIN)/clip2x embed-proxies $(STORE) --clip $(MODEL) --pretrained $(WEIGHTS) $(ARGS)

eval-zeroshot: $(EVAL_NEEDS) $(WEIGHTS_NEEDS) $(if $(filter mini,$(PROFILE))$(filter pretrain-depth pretrain-points,$(MAKECMDGOALS)),$(filter $(DEPTH),$(DEPTH_CHECKPOINT)) $(filter $(POINT),$(POINT_CHECKPOINT))) $(STAMP)  ## zero-shot classification; prints a table, writes results.json
	$(BIN)/python -m stages test $(call CONFIG,eval_zeroshot) --data.root $(EVAL_DATA) --data.seed $(SEED) $(CLIP_ARGS) \
	  $(if $(filter-out none,$(DEPTH_CHECKPOINT)),--model.checkpoint $(DEPTH_CHECKPOINT)) \
	  $(if $(filter-out none,$(TUNED_CHECKPOINT)),--model.tuned_checkpoint $(TUNED_CHECKPOINT)) \
	  $(if $(filter-out none,$(POINT_CHECKPOINT)),--model.point_checkpoint $(POINT_CHECKPOINT)) \
	  $(if $(ADAPTED),--model.adapted_checkpoint $(ADAPTED)) \
	  $(if $(and $(filter mini,$(PROFILE)),$(filter-out clip2x-small,$(CLIP))),--model.images false) \
	  --model.output $(RUNS)/eval_zeroshot --trainer.logger.save_dir $(RUNS)/eval_zeroshot $(if $(EVAL),--data.test '[$(EVAL)]') $(ARGS)

few-shot: $(EVAL_NEEDS) $(WEIGHTS_NEEDS) $(if $(filter mini,$(PROFILE)),$(filter $(POINT),$(POINT_CHECKPOINT))) $(STAMP)  ## few-shot recognition from the point encoder: linear probe and tuned
	$(BIN)/python -m stages test $(call CONFIG,few_shot_points) --data.root $(EVAL_DATA) --data.seed $(SEED) $(CLIP_ARGS) \
	  $(if $(filter-out none,$(POINT_CHECKPOINT)),--model.checkpoint $(POINT_CHECKPOINT)) \
	  --model.output $(RUNS)/few_shot_points --trainer.logger.save_dir $(RUNS)/few_shot_points $(if $(EVAL),--data.test '[$(EVAL)]') $(ARGS)

adapt: $(EVAL_NEEDS) $(WEIGHTS_NEEDS) $(if $(filter mini,$(PROFILE)),$(filter $(DEPTH),$(DEPTH_CHECKPOINT))) $(STAMP)  ## GDPA and its baselines on frozen features: few-shot and fully supervised, with tables and curves
	$(BIN)/python -m stages test $(call CONFIG,adapt) --data.root $(EVAL_DATA) --data.seed $(SEED) $(CLIP_ARGS) \
	  $(if $(filter-out none,$(DEPTH_CHECKPOINT)),--model.checkpoint $(DEPTH_CHECKPOINT)) \
	  $(if $(filter-out none,$(or $(POINTS),$(wildcard $(POINT_CHECKPOINT)))),--model.point_checkpoint $(POINT_CHECKPOINT)) \
	  --model.output $(RUNS)/adapt --trainer.logger.save_dir $(RUNS)/adapt $(if $(EVAL),--data.test '[$(EVAL)]') $(ARGS)

report: $(STAMP)  ## pages of all results below runs/, and one page for all of them
	$(BIN)/clip2x report $(if $(filter command environment,$(firstword $(origin RUNS))),$(RUNS),runs)

clean:  ## remove the runs, keep the environment
	rm -rf runs dist build .pytest_cache .mypy_cache .ruff_cache
