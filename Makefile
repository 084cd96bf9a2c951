# Every target sets itself up: the virtual environment .venv is made on first use, and again when
# the dependencies change. The user's own pip settings hold (pip.conf, PIP_* variables).
PYTHON ?= python3
PIP_ARGS ?=
FIT_ARGS ?=
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
SUITE := llama_small gpt_tiny lstm_tiny
CLIENTS := data/clients/venv
PAGE_STAMP := page/node_modules/.installed

DATA ?= configs/data/char.yaml
CONFIG ?= configs/gpt_tiny.yaml
STUDY ?= configs/studies/demo.yaml
SWEEP ?= configs/studies/ladder_sweep.yaml
N ?= 8
SEED ?= 1
FILES ?= 500
KILLS ?= 20
ARGS ?=
# The names of music and data sets may hold spaces, quotes, dollars, line breaks: they reach commands
# through the environment, as they are, and never become text of a recipe. MUSIC was once called MIDI.
ifeq ($(origin MUSIC),undefined)
override MUSIC := $(value MIDI)
else
override MUSIC := $(value MUSIC)
endif
override DATASET := $(value DATASET)
export MUSIC DATASET
# $$@ in a shell: one source that exists, or several separated by spaces
SOURCES := if test -e "$$MUSIC"; then set -- "$$MUSIC"; else set -- $$MUSIC; fi
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
MODEL_TESTS := tests/modeling tests/model_cards/test_model_card.py tests/model_cards/test_stock_export.py tests/model_cards/test_transformers_serve.py

# MODEL_TESTS in .venv-$(1), which has the packages of .venv, but of transformers what pip makes of $(2)
define test_release
	$(PY) -m venv .venv-$(1)
	$(PY) -c "import site; print(f'import site; site.addsitedir({site.getsitepackages()[0]!r})')" \
		> "$$(.venv-$(1)/bin/python -c 'import site; print(site.getsitepackages()[0])')/below.pth"
	.venv-$(1)/bin/python -m pip install $(PIP_ARGS) --upgrade "$$($(PY) -c '$(2)')"
	OMP_NUM_THREADS=1 .venv-$(1)/bin/python -m pytest --numprocesses auto --maxprocesses 4 $(MODEL_TESTS) $(ARGS)
endef
NEWEST := from importlib.metadata import requires; print(*(each for each in requires("abc-scaling") if each.startswith("transformers") and "extra" not in each))
LOWEST := from modeling.arguments_abc import TRIED_TRANSFORMERS as tried; print("transformers==" + tried[0])

.DEFAULT_GOAL := help
.PHONY: pretrained publish-suite help setup play demo data convert describe train finetune study sweep fit report bundle samples fill accompany evaluate judge page mcp studio publish publish-data publish-page update-results evaluate-study side-studies ladder-questions test-loss notebook bench-converter bench-abc bench-scores bench-page fuzz-converter fuzz-scores fuzz-judges kill-training cluster-check clients quality test docs page-pictures docs-serve test-newest test-lowest library-tests corpus results evaluation side likelihood bench fuzz mixins

##@ Start

help:  ## | this list
	@awk '/^##@/ {print "\n" substr($$0, 5)} /^[a-z-]+:.*## / {split($$0, line, ":"); \
		sub(/^[^#]*## /, ""); split($$0, part, / ?\| /); \
		printf "  make %-46s %s\n", line[1] " " part[1], part[2]}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## | create the virtual environment .venv

$(STAMP): pyproject.toml constraints.txt
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV): about 2 GB, some minutes"
	$(PY) -m pip install $(PIP_ARGS) --constraint constraints.txt --editable ".[audio,dev]"
	@# the player of sound; of its own dependency, for sound cards, there are no wheels for Linux
	@$(PY) -m pip install $(PIP_ARGS) --constraint constraints.txt --no-deps tinysoundfont || \
		echo "warning: no wheel of tinysoundfont for this Python, and no C++ compiler: pages and WAV files will have no sound" >&2
	@touch $@

# what needs no model of one's own
play finetune samples fill accompany page mcp studio bench-page: MODEL := $(or $(MODEL),pretrained/llama_small)

play: $(STAMP)  ## [PROMPT=<own tune>] [MODEL=<run>] | hear a trained model: tunes and a page that plays
	$(PY) -m evaluation.play "$(MODEL)" --seed $(SEED) --out "$(or $(OUT),runs/play)" $(if $(PROMPT),--prompt "$(PROMPT)") $(ARGS)

demo: $(STAMP)  ## | music, models, a scaling law, tunes, a report
	@echo "1. Music: the public-domain tunes of music21 become ABC text and tokens"
	@$(PY) -m data_prep.pipeline music21 --config configs/data/demo.yaml --keep-latest
	@echo "2. Models: three families, five sizes each, trained on 2 million tokens"
	@$(PY) -m training.study $(DEMO)
	@echo "3. Law: how the loss falls as the models grow"
	@$(call fit_study,$(DEMO))
	@echo "4. Tunes: the best model writes, three readers judge"
	@$(PY) -m evaluation.evaluate_model runs/demo --n $(N) --seed $(SEED)
	@$(PY) -m evaluation.pages.model_report runs/demo > /dev/null  # the report links to this page
	@echo "5. What was found"
	@$(PY) -m evaluation.pages.report runs/demo

##@ Your music

data: $(STAMP)  ## MUSIC=<folder, archive, ...> | MIDI, ABC, scores -> data/<name>/<preset>/ [DATA=<preset>]
	@test -n "$$MUSIC" || { echo "error: no music given; expected make data MUSIC=<folder, .zip, .tar.gz, .abc, or music21>" >&2; exit 2; }
	$(SOURCES); $(PY) -m data_prep.pipeline --config "$(DATA)" $(ARGS) -- "$$@"

convert: $(STAMP)  ## MUSIC=<...> OUT=<folder> | music -> shards of ABC, for large collections
	@test -n "$$MUSIC" && test -n "$(OUT)" || { echo "error: expected make convert MUSIC=<source> OUT=<folder>" >&2; exit 2; }
	$(SOURCES); $(PY) -m data_prep.convert $(ARGS) -- "$$@" "$(OUT)"

describe: $(STAMP)  ## DATASET=data/<name>/<preset> | counts and histograms -> results/corpus.json
	@test -n "$$DATASET" || { echo "error: expected make describe DATASET=data/<name>/<preset>" >&2; exit 2; }
	$(PY) -m data_prep.describe -- "$$DATASET" results
	$(PY) -m data_prep.digest_list -- "$$DATASET" results/corpus_digests.csv
	$(PY) -m scaling.plots results --only corpus
	$(PY) -m scaling.reporting.blocks results --only corpus

##@ Train and study

train: $(STAMP)  ## CONFIG=<size file> | one model -> runs/single/<size>/ [ARGS=...]
	$(PY) train.py "$(CONFIG)" $(ARGS)

finetune: DATA = configs/data/finetune.yaml
finetune: $(STAMP)  ## [MODEL=<run>] MUSIC=<...> | a trained model on your music [LORA=1]
	@test -n "$$MUSIC" || { echo "error: expected make finetune [MODEL=<runs/<study>/<run>, or a name on the Hub>] MUSIC=<folder or archive> [LORA=1]" >&2; exit 2; }
	@folder=$$($(PY) -m data_prep.pipeline --config "$(DATA)" --model "$(MODEL)" --keep-latest --folder -- "$$MUSIC") && \
	dataset=$$($(PY) -c 'import sys; from training.config import format_override; print(format_override("data.dataset", sys.argv[1]))' "$$(basename -- "$$(dirname -- "$$folder")")") && \
	$(PY) train.py "$(FINETUNE)" "model.pretrained='$(MODEL)'" "$$dataset" "data.preset=$$(basename -- "$$folder")" $(ARGS)

study: $(STAMP)  ## STUDY=<study file> | train a grid of models [ARGS=--dry-run]
	$(PY) -m training.study "$(STUDY)" $(ARGS)

sweep: $(STAMP)  ## SWEEP=<study file> | learning rates by size -> results/
	$(PY) -m training.study "$(SWEEP)" $(ARGS)
	@runs=$$($(PY) -m training.study "$(SWEEP)" --folder) && $(PY) -m scaling.records "$$runs" && \
	$(PY) -m scaling.learning_rates "$$runs/runs.csv" --out results/learning_rates.json

fit: $(STAMP)  ## STUDY=<study file> | scaling laws of a study -> fits.json, figures/
	@$(call fit_study,$(STUDY))

report: $(STAMP)  ## STUDY=<study file> | page of a fitted and evaluated study
	@runs=$$($(PY) -m training.study "$(STUDY)" --folder) && $(PY) -m evaluation.pages.report "$$runs"

bundle: $(STAMP)  ## DATASET=<...> OUT=<file> | a dataset as one file, for another machine
	@test -n "$$DATASET" && test -n "$(OUT)" || { echo "error: expected make bundle DATASET=data/<name>/<preset> OUT=<file>" >&2; exit 2; }
	$(PY) -m training.bundle -- "$$DATASET" "$(OUT)"

pretrained: $(STAMP)  ## [OPENSCORE=<folder>] | the models of pretrained/ made anew, in hours
	$(PY) -m data_prep.pipeline --config configs/data/pretrained_note.yaml --dataset pretrained --keep-latest -- music21 openscore_lieder openscore_quartets
	for size in $(SUITE); do $(PY) train.py "configs/pretrained_$$size.yaml" || exit; done
	for size in $(SUITE); do $(PY) -m evaluation.evaluate_model "runs/single/pretrained_$$size" --n 1000 --fill-ins 300 || exit; done
	$(PY) -m model_cards.suite build $(SUITE:%=runs/single/pretrained_%)
	$(PY) -m evaluation.tables $(SUITE:%=runs/single/pretrained_%)

##@ Sample and judge

samples: $(STAMP)  ## [MODEL=<run>] [OUT=<folder>] | tunes as .abc and .mid [N=8] [PROMPT=<file>]
	$(PY) -m evaluation.samples.sampling "$(MODEL)" --n $(N) --seed $(SEED) $(if $(OUT),--out "$(OUT)") $(if $(PROMPT),--prompt "$(PROMPT)") $(ARGS)

fill: $(STAMP)  ## [MODEL=<run>] TUNE=<file> BARS=5-8 | bars of your tune written anew [N=8] [OUT=<folder>]
	@test -n "$(TUNE)" -a -n "$(BARS)" || { echo "error: expected make fill TUNE=<.mid or .abc> BARS=5-8" >&2; exit 2; }
	$(PY) -m evaluation.samples.arranging "$(MODEL)" "$(TUNE)" --fill "$(BARS)" --n $(N) --seed $(SEED) $(if $(OUT),--out "$(OUT)") $(ARGS)

accompany: $(STAMP)  ## [MODEL=<run>] TUNE=<file> WITH="Violin, drums" | voices beside your own [N=8]
	@test -n "$(TUNE)" -a -n "$(WITH)" || { echo 'error: expected make accompany TUNE=<.mid or .abc> WITH="Violin, drums"' >&2; exit 2; }
	$(PY) -m evaluation.samples.arranging "$(MODEL)" "$(TUNE)" --accompany "$(WITH)" --n $(N) --seed $(SEED) $(if $(OUT),--out "$(OUT)") $(ARGS)

evaluate: N = 500
evaluate: $(STAMP)  ## MODEL=<run> | samples, verdicts, test loss -> a page
	@test -n "$(MODEL)" || { echo "error: no MODEL given; expected make evaluate MODEL=runs/<study>/<run>" >&2; exit 2; }
	$(PY) -m evaluation.evaluate_model "$(MODEL)" --n $(N) --seed $(SEED) $(ARGS)
	$(PY) -m evaluation.pages.model_report "$(MODEL)"

judge: $(STAMP)  ## TEXTS=<.abc ...> OUT=<file> | what three independent readers report
	@test -n "$(TEXTS)" -a -n "$(OUT)" || { echo "error: expected make judge TEXTS=<.abc or samples.jsonl> OUT=<verdicts.jsonl>" >&2; exit 2; }
	OMP_NUM_THREADS=1 $(PY) -m evaluation.judging.judges $(TEXTS) --out "$(OUT)" $(ARGS)

page: OUT = runs/page
page: $(STAMP) $(PAGE_STAMP)  ## [MODEL=<run>] | a static page in which the model writes [OUT=<folder>]
	$(PY) -m model_cards.page_files "$(MODEL)" "$(OUT)"
	node page/build.mjs "$(OUT)"
	@echo "$(OUT) is a static page: put it on any host, or: $(PY) -m http.server --directory $(OUT)"

$(PAGE_STAMP): page/package-lock.json
	@command -v npm > /dev/null || { echo "error: no npm; the page is built with Node.js 20 or newer, on Debian: apt-get install npm" >&2; exit 2; }
	npm ci --prefix page --no-audit --no-fund
	@touch $@

##@ Serve and publish

mcp: FILES =
mcp: $(STAMP)  ## [MODEL=<run>] | an MCP server: tools that write and edit music [FILES=<folder>]
	@$(PY) -m evaluation.serving "$(MODEL)" $(if $(FILES),--files "$(FILES)") $(ARGS)

studio: OUT = runs/studio
studio: $(STAMP) $(PAGE_STAMP)  ## [MODEL=<run>] | the page on this machine: MIDI and scores too, models of any size
	@$(PY) -c "import pydantic, starlette, uvicorn" 2>/dev/null || $(PY) -m pip install $(PIP_ARGS) --constraint constraints.txt --editable ".[studio]"
	$(PY) -m model_cards.page_files --without-weights "$(MODEL)" "$(OUT)"
	node page/build.mjs "$(OUT)"
	@$(PY) -m evaluation.serving.studio "$(MODEL)" "$(OUT)" $(ARGS)

publish: $(STAMP)  ## MODEL=<run> REPO=user/name | a model on the Hub [STOCK=1 FORMATS="gguf onnx" SONGS=user/name]
	@test -n "$(MODEL)" -a -n "$(REPO)" || { echo "error: expected make publish MODEL=runs/<study>/<run> REPO=user/name" >&2; exit 2; }
	$(PY) -m model_cards.publish "$(MODEL)" "$(REPO)" $(if $(filter-out 0,$(DRY_RUN)),--dry-run) $(if $(filter-out 0,$(STOCK)),--stock) $(if $(filter-out 0,$(REVISIONS)),--revisions) $(if $(FORMATS),--formats $(FORMATS)) $(if $(SONGS),--datasets $(SONGS))

publish-suite: $(STAMP)  ## USER=<name> | the models of pretrained/ on the Hub, as a collection [DRY_RUN=1]
	@test "$(origin USER)" = "command line" || { echo "error: expected make publish-suite USER=<name on the Hub> [DRY_RUN=1]" >&2; exit 2; }
	$(PY) -m model_cards.suite publish "$(USER)" $(if $(filter-out 0,$(DRY_RUN)),--dry-run)

publish-data: $(STAMP)  ## DATASET=... REPO=... LICENCE=... | a dataset on the Hub [DRY_RUN=1]
	@test -n "$$DATASET" && test -n "$(REPO)" && test -n "$(LICENCE)" || { echo "error: expected make publish-data DATASET=data/<name>/<preset> REPO=user/name LICENCE=<licence>" >&2; exit 2; }
	$(PY) -m model_cards.publish_data --licence "$(LICENCE)" $(if $(filter-out 0,$(DRY_RUN)),--dry-run) -- "$$DATASET" "$(REPO)"

publish-page: OUT = runs/page
publish-page: page  ## [MODEL=<run>] REPO=user/name | the page as a static Space on the Hub [DRY_RUN=1]
	@test -n "$(REPO)" || { echo "error: expected make publish-page REPO=user/name [MODEL=<run>]" >&2; exit 2; }
	$(PY) -m model_cards.publish_page "$(OUT)" "$(REPO)" $(if $(filter-out 0,$(DRY_RUN)),--dry-run)

##@ Measure

update-results: $(STAMP)  ## STUDY=<study file> | copy a fitted study to results/, fill tables
	@runs=$$($(PY) -m training.study "$(STUDY)" --folder) && mkdir -p results && \
	cp "$$runs"/runs.csv "$$runs"/curves.csv "$$runs"/fits.json "$$runs"/fit.json results/ && \
	$(PY) -m scaling.plots results && \
	$(PY) -m scaling.reporting.blocks results

evaluate-study: N = 1000
evaluate-study: EVALUATED = $(or $(RUNS),$(wildcard runs/tiny/*/ runs/tiny_bpe4096/*/))
evaluate-study: $(STAMP)  ## [RUNS=<runs>] | evaluate several models -> results/evaluation/
	@test -n "$(EVALUATED)" || { echo "error: no runs; make study STUDY=configs/studies/tiny.yaml, or RUNS=\"runs/<study>/*/\"" >&2; exit 2; }
	@for run in $(EVALUATED); do \
		$(PY) -m evaluation.evaluate_model "$$run" --n $(N) --seed $(SEED) $(ARGS) || exit; \
		$(PY) -m evaluation.pages.model_report "$$run" || exit; \
	done
	$(PY) -m evaluation.tables $(EVALUATED)

side-studies: $(STAMP)  ## | context, leakage, tokenizers -> results/
	$(PY) -m evaluation.loss.context_use runs/cpu/*_t12M_s1/ --out results/context_use.json
	$(PY) -m evaluation.loss.context_use runs/cpu_context/*_t12M_s*/ runs/cpu/gpt_l2_d64_t12M_s[12]/ \
		runs/cpu/lstm_l2_d78_t12M_s[12]/ --out results/context_length.json
	$(PY) -m evaluation.loss.leakage runs/cpu_leakage/*_t12M_s*/ --out results/leakage.json
	$(PY) -m evaluation.loss.compare_tokenizers runs/cpu_bpe/*_t*_s*/ runs/cpu_note/*_t*_s*/ \
		runs/cpu/gpt_l2_d64_t12M_s[12]/ runs/cpu/lstm_l2_d78_t12M_s[12]/ --out results/tokenizers.json

QUESTIONS := ladder_repeat ladder_batch ladder_muon ladder_sweep
ladder-questions: $(STAMP)  ## | sensitivity, repeats, batch, Muon, music, forecasts -> results/
	@for study in $(QUESTIONS); do $(PY) -m scaling.records "runs/$$study" || exit; done
	$(PY) -m scaling.fit runs/ladder_repeat/runs.csv --out results/repeats.json
	$(PY) -m scaling.choices runs/ladder_batch/runs.csv --by batch_tokens --reference 4096 --out results/batch.json
	$(PY) -m scaling.choices runs/ladder_muon/runs.csv runs/ladder_sweep/runs.csv --by optim --reference adamw_torch_fused --out results/muon.json
	$(PY) -m scaling.sensitivity results/runs.csv --law chinchilla --out results/sensitivity.json
	$(PY) -m scaling.inference results/step_time.json results/fits.json --tokens 2.5e7 --out results/inference.json
	$(PY) -m scaling.forecasts results/runs.csv --tokens 1e8 --flops 1e18 1e19 \
		--sizes $(foreach size,medium large xl,$(foreach family,gpt lstm llama,configs/$(family)_$(size).yaml)) \
		--date "$$(date +%F)" --out results/forecasts.json
	$(PY) -m evaluation.loss_and_music runs/ladder/*_t12M_s1/ --out results/loss_and_music.json

test-loss: $(STAMP)  ## RUNS=<runs> | test loss in every unit, beside baselines
	@test -n "$(RUNS)" || { echo "error: no RUNS given; expected make test-loss RUNS=\"runs/<study>/*/\"" >&2; exit 2; }
	$(PY) -m evaluation.loss.likelihood $(RUNS) --out $(or $(OUT),results/likelihood.json)

notebook: $(STAMP)  ## | run results/scaling_study.ipynb again
	$(PY) tests/helpers/run_notebook.py results/scaling_study.ipynb

bench-converter: $(STAMP)  ## MUSIC=<...> | the converter beside midi2abc and others
	@test -n "$$MUSIC" || { echo "error: no music given; expected make bench-converter MUSIC=<folder or .zip of MIDI>" >&2; exit 2; }
	$(SOURCES); $(PY) benchmarks/conversion.py --files $(FILES) --seed $(SEED) $(ARGS) -- "$$@"
	$(SOURCES); $(PY) benchmarks/readers.py --seed $(SEED) -- "$$@"

bench-abc: $(STAMP)  ## | the importer of ABC beside abc2midi, abcjs and music21
	$(PY) -m benchmarks.foreign_abc $(ARGS)

bench-scores: $(STAMP)  ## MUSIC=<...> | the notes of MusicXML beside music21
	@test -n "$$MUSIC" || { echo "error: no music given; expected make bench-scores MUSIC=<folder or archive of MusicXML>" >&2; exit 2; }
	$(PY) -m benchmarks.scores $(ARGS) -- "$$MUSIC"

bench-page: $(STAMP) $(PAGE_STAMP)  ## [MODEL=<run>] | the page in chromium: validity, speed -> results/page.json
	NODE_PATH="$(CURDIR)/page/node_modules" OMP_NUM_THREADS=1 $(PY) -m benchmarks.page "$(MODEL)" $(ARGS)

fuzz-converter: $(STAMP)  ## | odd MIDI files and texts through converter and importer
	$(PY) benchmarks/fuzz_conversion.py $(ARGS)

fuzz-scores: $(STAMP)  ## | odd MusicXML, MEI and Humdrum through the conversion [ARGS=...]
	$(PY) -m benchmarks.fuzz_scores $(ARGS)

fuzz-judges: $(STAMP)  ## | odd and hostile texts through the judges
	OMP_NUM_THREADS=1 $(PY) benchmarks/fuzz_judges.py $(ARGS)

kill-training: $(STAMP)  ## [KILLS=20] | kill, resume, compare the weights
	OMP_NUM_THREADS=1 $(PY) benchmarks/kill_training.py --kills $(KILLS) --seed $(SEED) $(ARGS)

cluster-check: $(STAMP)  ## | conversion and a study on a real Slurm and Ray, tasks killed
	@$(PY) -c "import datatrove, ray" 2>/dev/null || $(PY) -m pip install $(PIP_ARGS) --constraint constraints.txt --editable ".[datatrove,ray]"
	@$(PY) -m benchmarks.cluster_check

clients: $(STAMP)  ## GPT=<run> LSTM=<run> DATASET=<...> [LLAMA=<run>] | our folders in TRL, peft, lm-eval, ...
	@test -n "$(GPT)" -a -n "$(LSTM)" -a -n "$$DATASET" || { echo "error: expected make clients GPT=<run> LSTM=<run> DATASET=data/<name>/<preset>" >&2; exit 2; }
	@test -x $(CLIENTS)/bin/python || $(PY) -m venv $(CLIENTS)
	$(PY) -c "import site; print(f'import site; site.addsitedir({site.getsitepackages()[0]!r})')" \
		> "$$($(CLIENTS)/bin/python -c 'import site; print(site.getsitepackages()[0])')/below.pth"
	$(CLIENTS)/bin/python -m pip install $(PIP_ARGS) --requirement benchmarks/clients/requirements.txt
	$(PY) -m benchmarks.clients "$(GPT)" "$(LSTM)" --data "$$DATASET" --python $(CLIENTS)/bin/python $(if $(LLAMA),--llama "$(LLAMA)") $(ARGS)

##@ Develop

quality: $(STAMP)  ## | check format and lint
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .

test: $(STAMP)  ## | the test suite
	OMP_NUM_THREADS=1 $(PY) -m pytest --numprocesses auto --maxprocesses 4 $(ARGS)

docs: $(STAMP) $(if $(MODEL),$(PAGE_STAMP))  ## [MODEL=<run>] | build the documentation -> runs/site/; with a model that plays in it
	@$(PY) -c "import material, mkdocstrings" 2>/dev/null || $(PY) -m pip install $(PIP_ARGS) --constraint constraints.txt --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(if $(MODEL),ABC_PAGE=plays) $(PY) -m mkdocs build --strict --quiet
	$(if $(MODEL),$(PY) -m model_cards.page_files "$(MODEL)" runs/site/plays && node page/build.mjs runs/site/plays)

page-pictures: OUT = runs/page
page-pictures: page  ## [MODEL=<run>] | pictures of the page in chromium -> runs/page_pictures/, and the site's
	@command -v chromium > /dev/null || { echo "error: no chromium; on Debian: apt-get install chromium" >&2; exit 2; }
	$(PY) -m benchmarks.page_pictures "$(OUT)" runs/page_pictures
	cp runs/page_pictures/page.png docs/how-to/page.png

docs-serve: docs  ## | serve the documentation while you edit it
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs serve

test-newest: $(STAMP)  ## | model tests, newest transformers allowed
	$(call test_release,newest,$(NEWEST))

test-lowest: $(STAMP)  ## | model tests, lowest transformers allowed
	$(call test_release,lowest,$(LOWEST))

library-tests: $(STAMP)  ## TRANSFORMERS=... GENERATION=... | transformers' own tests, on our families
	@test -n "$(TRANSFORMERS)" -a -n "$(GENERATION)" || { echo "error: expected make library-tests TRANSFORMERS=<source package of transformers, unpacked> GENERATION=<checkout with tests/generation>" >&2; exit 2; }
	@$(PY) -c "import httpx, parameterized" 2>/dev/null || $(PY) -m pip install $(PIP_ARGS) --constraint constraints.txt --editable ".[mixins]"
	$(PY) tests/library_mixins/run.py "$(TRANSFORMERS)" "$(GENERATION)" $(ARGS)

# What targets were called before; they say what they are called now.
define renamed
$(1):
	@echo "make $(1) is now make $(2)" >&2
	@$$(MAKE) --no-print-directory $(2)
endef
$(eval $(call renamed,corpus,describe))
$(eval $(call renamed,results,update-results))
$(eval $(call renamed,evaluation,evaluate-study))
$(eval $(call renamed,side,side-studies))
$(eval $(call renamed,likelihood,test-loss))
$(eval $(call renamed,bench,bench-converter))
$(eval $(call renamed,fuzz,fuzz-converter))
$(eval $(call renamed,mixins,library-tests))
