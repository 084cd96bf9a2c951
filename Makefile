# Every target sets itself up: the virtual environment .venv is made on first use, and again when
# the dependencies change. The user's own pip settings hold (pip.conf, PIP_* variables).
PYTHON ?= python3
PIP_ARGS ?=
FIT_ARGS ?=
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

DATA ?= configs/data/char.yaml
CONFIG ?= configs/gpt_tiny.yaml
STUDY ?= configs/studies/demo.yaml
SWEEP ?= configs/studies/cpu_sweep.yaml
N ?= 8
SEED ?= 1
FILES ?= 500
KILLS ?= 20
ARGS ?=
DEMO := configs/studies/demo.yaml
FINETUNE := configs/$(if $(filter-out 0,$(LORA)),finetune_lora,finetune).yaml

# runs.csv, curves.csv, fits.json and figures of the study file $(1)
define fit_study
	runs=$$($(PY) -m training.study "$(1)" --folder) && \
	$(PY) -m scaling.records "$$runs" && \
	$(PY) -m scaling.loss_curves "$$runs" && \
	$(PY) -m scaling.fit "$$runs/runs.csv" --out "$$runs/fits.json" $(FIT_ARGS) && \
	$(PY) -m scaling.plots "$$runs"
endef

# What depends on the release of transformers.
MODEL_TESTS := tests/modeling tests/model_cards/test_model_card.py tests/model_cards/test_stock_export.py

# MODEL_TESTS in .venv-$(1), which has the packages of .venv, but of transformers what pip makes of $(2)
define test_release
	$(PY) -m venv .venv-$(1)
	$(PY) -c "import site; print(f'import site; site.addsitedir({site.getsitepackages()[0]!r})')" \
		> "$$(.venv-$(1)/bin/python -c 'import site; print(site.getsitepackages()[0])')/below.pth"
	.venv-$(1)/bin/python -m pip install $(PIP_ARGS) --upgrade "$$($(PY) -c '$(2)')"
	OMP_NUM_THREADS=1 .venv-$(1)/bin/python -m pytest --numprocesses auto --maxprocesses 4 $(MODEL_TESTS) $(ARGS)
endef
NEWEST := from importlib.metadata import requires; print(*(each for each in requires("abc-scaling") if each.startswith("transformers")))
LOWEST := from modeling.arguments_abc import TRIED_TRANSFORMERS as tried; print("transformers==" + tried[0])

.DEFAULT_GOAL := help
.PHONY: help setup demo convert data bundle train finetune study sweep fit samples evaluate evaluation report results side likelihood notebook corpus publish publish-data bench fuzz judge fuzz-judges kill-training quality test test-newest test-lowest mixins

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1  /p' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make the virtual environment .venv

$(STAMP): pyproject.toml constraints.txt
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV): about 2 GB, some minutes"
	$(PY) -m pip install $(PIP_ARGS) --constraint constraints.txt --editable ".[dev]"
	@touch $@

demo: $(STAMP)  ## bundled music -> models -> scaling law -> tunes -> runs/demo/report.html
	$(PY) -m data_prep.pipeline music21 --config configs/data/demo.yaml --keep-latest
	$(PY) -m training.study $(DEMO)
	@$(call fit_study,$(DEMO))
	$(PY) -m evaluation.evaluate_model runs/demo --n $(N) --seed $(SEED)
	$(PY) -m evaluation.pages.model_report runs/demo
	$(PY) -m evaluation.pages.report runs/demo

convert: $(STAMP)  ## MIDI="<folder, .zip, .tar.gz, .parquet, hf://datasets/user/name, lmd_full> ..." OUT=<folder>: shards of ABC
	@test -n "$(MIDI)" -a -n "$(OUT)" || { echo "error: expected make convert MIDI=<source> OUT=<folder>" >&2; exit 2; }
	$(PY) -m data_prep.convert $(MIDI) "$(OUT)" $(ARGS)

data: $(STAMP)  ## MIDI=<folder, .zip, .tar.gz, hf://datasets/user/name, or music21> [DATA=configs/data/char.yaml]
	@test -n "$(MIDI)" || { echo "error: no MIDI given; expected make data MIDI=<folder, .zip, .tar.gz, or music21>" >&2; exit 2; }
	$(PY) -m data_prep.pipeline "$(MIDI)" --config "$(DATA)" $(ARGS)

bundle: $(STAMP)  ## DATASET=data/<name>/<preset> OUT=<file>: all that training reads in one file, for a machine without pyarrow
	@test -n "$(DATASET)" -a -n "$(OUT)" || { echo "error: expected make bundle DATASET=data/<name>/<preset> OUT=<file>" >&2; exit 2; }
	$(PY) -m training.bundle "$(DATASET)" "$(OUT)"

train: $(STAMP)  ## CONFIG=configs/gpt_tiny.yaml [ARGS="training.max_steps=100 ..."]
	$(PY) train.py "$(CONFIG)" $(ARGS)

finetune: DATA = configs/data/finetune.yaml
finetune: $(STAMP)  ## MODEL=<runs/... or user/name> MIDI=<folder, archive, ...> [LORA=1] [ARGS="budget.epochs=2 ..."]
	@test -n "$(MODEL)" -a -n "$(MIDI)" || { echo "error: expected make finetune MODEL=<runs/<study>/<run>, or a name on the Hub> MIDI=<folder or archive> [LORA=1]" >&2; exit 2; }
	@folder=$$($(PY) -m data_prep.pipeline "$(MIDI)" --config "$(DATA)" --model "$(MODEL)" --keep-latest --folder) && \
	$(PY) train.py "$(FINETUNE)" "model.pretrained='$(MODEL)'" \
		"data.dataset='$$(basename "$$(dirname "$$folder")")'" "data.preset=$$(basename "$$folder")" $(ARGS)

study: $(STAMP)  ## STUDY=configs/studies/demo.yaml [ARGS="--dry-run" or "--jobs 2 --no-estimate ..."]: what is missing, and how long it will take
	$(PY) -m training.study "$(STUDY)" $(ARGS)

sweep: $(STAMP)  ## [SWEEP=configs/studies/cpu_sweep.yaml]: learning rates tried, and the rule that gives each size its own
	$(PY) -m training.study "$(SWEEP)" $(ARGS)
	@runs=$$($(PY) -m training.study "$(SWEEP)" --folder) && $(PY) -m scaling.records "$$runs" && \
	$(PY) -m scaling.learning_rates "$$runs/runs.csv" --out results/learning_rates.json

fit: $(STAMP)  ## STUDY=configs/studies/demo.yaml: runs.csv, fits.json and figures
	@$(call fit_study,$(STUDY))

samples: $(STAMP)  ## MODEL=runs/... [N=8] [OUT=<folder>] [SEED=1] [PROMPT=<.abc or .mid>] [ARGS="--key G --free ..."]
	@test -n "$(MODEL)" || { echo "error: no MODEL given; expected make samples MODEL=runs/<study>/<run>" >&2; exit 2; }
	$(PY) -m evaluation.samples.sampling "$(MODEL)" --n $(N) --seed $(SEED) $(if $(OUT),--out "$(OUT)") $(if $(PROMPT),--prompt "$(PROMPT)") $(ARGS)

evaluate: N = 500
evaluate: $(STAMP)  ## MODEL=runs/... [N=500] [SEED=1]: samples, judges, test loss -> metrics.json, evaluation.html
	@test -n "$(MODEL)" || { echo "error: no MODEL given; expected make evaluate MODEL=runs/<study>/<run>" >&2; exit 2; }
	$(PY) -m evaluation.evaluate_model "$(MODEL)" --n $(N) --seed $(SEED)
	$(PY) -m evaluation.pages.model_report "$(MODEL)"

evaluation: N = 1000
evaluation: EVALUATED = $(or $(RUNS),$(wildcard runs/tiny/*/ runs/tiny_bpe4096/*/))
evaluation: $(STAMP)  ## [RUNS="runs/tiny/*/ ..."] [N=1000]: of the studies tiny*, results/evaluation/ and an example page
	@test -n "$(EVALUATED)" || { echo "error: no runs; make study STUDY=configs/studies/tiny.yaml, or RUNS=\"runs/<study>/*/\"" >&2; exit 2; }
	@for run in $(EVALUATED); do \
		$(PY) -m evaluation.evaluate_model "$$run" --n $(N) --seed $(SEED) || exit; \
		$(PY) -m evaluation.pages.model_report "$$run" || exit; \
	done
	$(PY) -m evaluation.tables $(EVALUATED)

report: $(STAMP)  ## STUDY=configs/studies/demo.yaml: report.html of a study that was fitted and evaluated
	@runs=$$($(PY) -m training.study "$(STUDY)" --folder) && $(PY) -m evaluation.pages.report "$$runs"

results: $(STAMP)  ## [STUDY=configs/studies/demo.yaml]: fill results/ from a study that was fitted
	@runs=$$($(PY) -m training.study "$(STUDY)" --folder) && mkdir -p results && \
	cp "$$runs"/runs.csv "$$runs"/curves.csv "$$runs"/fits.json results/ && \
	$(PY) -m scaling.plots results && \
	$(PY) -m scaling.reporting.blocks results README.md

side: $(STAMP)  ## after the studies cpu, cpu_context, cpu_leakage, cpu_bpe, cpu_note: their files in results/
	$(PY) -m evaluation.loss.context_use runs/cpu/*_t12M_s1/ --out results/context_use.json
	$(PY) -m evaluation.loss.context_use runs/cpu_context/*_t12M_s*/ runs/cpu/gpt_l2_d64_t12M_s[12]/ \
		runs/cpu/lstm_l2_d78_t12M_s[12]/ --out results/context_length.json
	$(PY) -m evaluation.loss.leakage runs/cpu_leakage/*_t12M_s*/ --out results/leakage.json
	$(PY) -m evaluation.loss.compare_tokenizers runs/cpu_bpe/*_t*_s*/ runs/cpu_note/*_t*_s*/ \
		runs/cpu/gpt_l2_d64_t12M_s[12]/ runs/cpu/lstm_l2_d78_t12M_s[12]/ --out results/tokenizers.json

likelihood: $(STAMP)  ## RUNS="runs/cpu/*_t12M_s1/" [OUT=results/likelihood.json]: test loss in every unit, and sanity rows
	@test -n "$(RUNS)" || { echo "error: no RUNS given; expected make likelihood RUNS=\"runs/<study>/*/\"" >&2; exit 2; }
	$(PY) -m evaluation.loss.likelihood $(RUNS) --out $(or $(OUT),results/likelihood.json)

notebook: $(STAMP)  ## results/scaling_study.ipynb, all figures anew from the files of results/
	$(PY) tests/helpers/run_notebook.py results/scaling_study.ipynb

corpus: $(STAMP)  ## DATASET=data/<name>/<preset>: results/corpus.json, its figure and its table in the README
	@test -n "$(DATASET)" || { echo "error: expected make corpus DATASET=data/<name>/<preset>" >&2; exit 2; }
	$(PY) -m data_prep.describe "$(DATASET)" results
	$(PY) -m data_prep.digest_list "$(DATASET)" results/corpus_digests.csv
	$(PY) -m scaling.plots results --only corpus
	$(PY) -m scaling.reporting.blocks results README.md --only corpus

publish: $(STAMP)  ## MODEL=runs/... REPO=user/name [DRY_RUN=1] [STOCK=1] [REVISIONS=1]: model card and folder, then push
	@test -n "$(MODEL)" -a -n "$(REPO)" || { echo "error: expected make publish MODEL=runs/<study>/<run> REPO=user/name" >&2; exit 2; }
	$(PY) -m model_cards.publish "$(MODEL)" "$(REPO)" $(if $(filter-out 0,$(DRY_RUN)),--dry-run) $(if $(filter-out 0,$(STOCK)),--stock) $(if $(filter-out 0,$(REVISIONS)),--revisions)

publish-data: $(STAMP)  ## DATASET=data/<name>/<preset> REPO=user/name LICENCE=<licence> [DRY_RUN=1]
	@test -n "$(DATASET)" -a -n "$(REPO)" -a -n "$(LICENCE)" || { echo "error: expected make publish-data DATASET=data/<name>/<preset> REPO=user/name LICENCE=<licence>" >&2; exit 2; }
	$(PY) -m model_cards.publish_data "$(DATASET)" "$(REPO)" --licence "$(LICENCE)" $(if $(filter-out 0,$(DRY_RUN)),--dry-run)

bench: $(STAMP)  ## MIDI="<folder or .zip> ..." [FILES=500] [SEED=0]: the converter beside midi2abc, and in three readers
	@test -n "$(MIDI)" || { echo "error: no MIDI given; expected make bench MIDI=<folder or .zip>" >&2; exit 2; }
	$(PY) benchmarks/conversion.py $(MIDI) --files $(FILES) --seed $(SEED) $(ARGS)
	$(PY) benchmarks/readers.py $(MIDI) --seed $(SEED)

fuzz: $(STAMP)  ## 50,000 odd MIDI files and 20,000 odd texts through the converter [ARGS="--midi 500 --abc 200"]
	$(PY) benchmarks/fuzz_conversion.py $(ARGS)

judge: $(STAMP)  ## TEXTS="<.abc files, samples.jsonl> ..." OUT=verdicts.jsonl: what music21, abc2midi and abcjs say
	@test -n "$(TEXTS)" -a -n "$(OUT)" || { echo "error: expected make judge TEXTS=<.abc or samples.jsonl> OUT=<verdicts.jsonl>" >&2; exit 2; }
	OMP_NUM_THREADS=1 $(PY) -m evaluation.judging.judges $(TEXTS) --out "$(OUT)" $(ARGS)

fuzz-judges: $(STAMP)  ## 10,000 odd and hostile texts through the judges [ARGS="--texts 300 --seeds 7"]
	OMP_NUM_THREADS=1 $(PY) benchmarks/fuzz_judges.py $(ARGS)

kill-training: $(STAMP)  ## kill -9 at random moments and inside saves, resume, compare the weights [KILLS=20] [SEED=1]
	OMP_NUM_THREADS=1 $(PY) benchmarks/kill_training.py --kills $(KILLS) --seed $(SEED) $(ARGS)

quality: $(STAMP)  ## format, lint
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .

test: $(STAMP)  ## the test suite [ARGS="-m slow" for the slow tests alone]
	OMP_NUM_THREADS=1 $(PY) -m pytest --numprocesses auto --maxprocesses 4 $(ARGS)

test-newest: $(STAMP)  ## the tests of models and cards with the newest transformers that pyproject.toml allows, in .venv-newest
	$(call test_release,newest,$(NEWEST))

test-lowest: $(STAMP)  ## the same with the lowest, in .venv-lowest
	$(call test_release,lowest,$(LOWEST))

mixins: $(STAMP)  ## TRANSFORMERS=<its source package, unpacked> GENERATION=<its checkout>: the library's own tests on both families
	@test -n "$(TRANSFORMERS)" -a -n "$(GENERATION)" || { echo "error: expected make mixins TRANSFORMERS=<source package of transformers, unpacked> GENERATION=<checkout with tests/generation>" >&2; exit 2; }
	@$(PY) -c "import httpx, parameterized" 2>/dev/null || $(PY) -m pip install $(PIP_ARGS) --constraint constraints.txt --editable ".[mixins]"
	$(PY) tests/library_mixins/run.py "$(TRANSFORMERS)" "$(GENERATION)" $(ARGS)
