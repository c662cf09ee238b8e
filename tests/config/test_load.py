from __future__ import annotations

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from fluxforge.config import FluxForgeConfig, load_config, storage_config
from fluxforge.errors import ConfigError
from fluxforge.lake import Lake

SHIPPED = Path(__file__).resolve().parents[2] / "conf"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("FLUXFORGE_CONFIG_DIR", "FLUXFORGE_DIR", "FLUXFORGE_BUCKET", "AWS_REGION",
                 "AWS_ENDPOINT_URL"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)


def write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refusal(tmp_path: Path, text: str) -> str:
    """Return the error that a config.yaml of this content gets."""
    write(tmp_path / "conf", "config.yaml", text)
    with pytest.raises(ConfigError) as caught:
        load_config()
    return str(caught.value)


class TestLayers:
    def test_the_defaults_alone_make_a_lake(self) -> None:
        config = load_config()
        assert (config.storage.backend, config.storage.base_dir) == ("local", "./data")
        assert config.etl.delete_after_processing is True
        assert config.ingestion.sources["coinbase"].channels == [
            "ticker", "level2", "market_trades", "candles",
        ]  # fmt: skip

    def test_the_shipped_base_file_states_the_defaults_and_all_of_them(self) -> None:
        from_file = yaml.safe_load((SHIPPED / "config.yaml").read_text(encoding="utf-8"))
        assert from_file == yaml.safe_load(FluxForgeConfig().to_yaml())

    @pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
    def test_every_shipped_file_loads_as_it_stands(self, path: Path) -> None:
        names = [] if path.stem == "config" else [path.stem]
        assert isinstance(load_config(*names, config_dir=SHIPPED), FluxForgeConfig)
        assert isinstance(load_config(*names), FluxForgeConfig)  # without a folder of one's own

    def test_there_are_the_three_overlays(self) -> None:
        assert {path.stem for path in SHIPPED.glob("*.yaml")} == {"config", "local", "s3", "hybrid"}

    def test_later_layers_win(self, tmp_path: Path) -> None:
        conf = tmp_path / "conf"
        write(conf, "config.yaml", "storage: {base_dir: base}\netl: {threads: 1}")
        write(conf, "one.yaml", "storage: {base_dir: one}\netl: {threads: 2, memory_limit_mb: 300}")
        two = write(tmp_path, "two.yml", "storage: {base_dir: two}")
        assert load_config().storage.base_dir == str(tmp_path / "base")
        assert load_config("one").storage.base_dir == str(tmp_path / "one")
        config = load_config("one", two)
        assert (config.storage.base_dir, config.etl.threads) == (str(tmp_path / "two"), 2)
        assert load_config(two, "one").storage.base_dir == str(tmp_path / "one")
        config = load_config("one", two, overrides=["storage.base_dir=x", "storage.base_dir=y"])
        assert (config.storage.base_dir, config.etl.memory_limit_mb) == ("y", 300)

    def test_a_folder_may_be_given_by_argument_or_environment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(tmp_path / "here", "config.yaml", "storage: {base_dir: here}")
        write(tmp_path / "there", "config.yaml", "storage: {base_dir: there}")
        monkeypatch.setenv("FLUXFORGE_CONFIG_DIR", str(tmp_path / "there"))
        assert load_config().storage.base_dir == str(tmp_path / "there")
        assert load_config(config_dir=tmp_path / "here").storage.base_dir == str(tmp_path / "here")

    def test_a_list_is_replaced_and_a_new_source_is_added(self, tmp_path: Path) -> None:
        write(
            tmp_path / "conf",
            "config.yaml",
            "ingestion: {sources: {coinbase: {products: [SOL-USD]}, kraken: {url: wss://x}}}",
        )
        config = load_config()
        assert config.ingestion.sources["coinbase"].products == ["SOL-USD"]
        assert "level2" in config.ingestion.sources["coinbase"].channels
        assert config.ingestion.sources["kraken"].url == "wss://x"

    def test_a_null_source_is_left_out_until_a_later_layer_has_it(self, tmp_path: Path) -> None:
        kraken = "kraken: {products: [BTC/USD]}"
        write(
            tmp_path / "conf",
            "config.yaml",
            f"ingestion: {{sources: {{coinbase: null, {kraken}}}}}",
        )
        config = load_config()
        assert Lake(config=config).sources == ["kraken"]
        write(tmp_path / "conf", "shown.yaml", config.to_yaml())
        assert list(load_config("shown").ingestion.sources) == ["kraken"]
        nothing = load_config(overrides=["ingestion.sources.kraken=null"])
        assert Lake(config=nothing).sources == []
        again = load_config(overrides=["ingestion.sources.coinbase.products=[SOL-USD]"])
        assert again.ingestion.sources["coinbase"].products == ["SOL-USD"]

    @pytest.mark.parametrize(
        "text",
        ["", "# nothing\n", "storage:\n", "ingestion:\n  # output_dir removed\netl:\n  # x\n",
         "storage:\n  paths:\n  s3:\n", "etl:\n  storage_input:\n  storage_output:\n",
         "etl:\n  storage_output:\n    s3:\n"],
    )  # fmt: skip
    def test_sections_that_hold_only_comments_change_nothing(
        self, tmp_path: Path, text: str
    ) -> None:
        write(tmp_path / "conf", "config.yaml", text)
        assert load_config() == FluxForgeConfig()

    def test_the_environment_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FLUXFORGE_DIR", "/mnt/lake")
        monkeypatch.setenv("FLUXFORGE_BUCKET", "bucket/prefix")
        monkeypatch.setenv("AWS_REGION", "eu-central-1")
        config = load_config("hybrid")
        assert storage_config(config, "ingestion").base_dir == "/mnt/lake"
        output = storage_config(config, "etl_output")
        assert (output.backend, output.base_dir) == ("s3", "bucket/prefix")
        assert (output.s3.region, output.s3.endpoint_url) == ("eu-central-1", None)

    def test_values_have_their_types(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("THREADS", "3")
        config = load_config(
            overrides=["etl.threads=${oc.env:THREADS}", "ingestion.segment_max_mb=5"]
        )
        assert (config.etl.threads, type(config.etl.threads)) == (3, int)
        assert isinstance(config.ingestion.segment_max_mb, float)

    def test_a_drive_is_a_base_dir(self) -> None:
        assert load_config(overrides=["storage.base_dir=F:/"]).storage.base_dir == "F:/"


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("storage: {bakend: s3}", ["'storage.bakend'", "did you mean 'backend'?"]),
            ("storge: {}", ["'storge'", "did you mean 'storage'?"]),
            ("storage: {paths: {raw_dri: x}}", ["'storage.paths.raw_dri'", "'raw_dir'"]),
            ("etl: {zzz: 1}", ["'etl.zzz'", "there are: storage_input"]),
            ("ingestion: {sources: {coinbase: {product: [x]}}}",
             ["'ingestion.sources.coinbase.product'", "'products'"]),
            ("etl: {storage_output: {bakend: s3}}", ["'etl.storage_output.bakend'", "'backend'"]),
            ("ingestion: {storage: {s3: {regoin: x}}}",
             ["'ingestion.storage.s3.regoin'", "'region'"]),
            ("1: 2", ["'1'", "there are: storage, ingestion, etl"]),
        ],
    )  # fmt: skip
    def test_an_unknown_key_is_named_with_its_file_and_the_nearest(
        self, tmp_path: Path, text: str, words: list[str]
    ) -> None:
        message = refusal(tmp_path, text)
        for word in ["config.yaml", "unknown key", *words]:
            assert word in message

    @pytest.mark.parametrize(
        ("text", "key"),
        [
            ("etl: {threads: abc}", "etl.threads"),
            ("etl: {threads: 1.5}", "etl.threads"),
            ("etl: {threads: null}", "etl.threads"),
            ("etl: {threads: [1]}", "etl.threads"),
            ("etl: {delete_after_processing: maybe}", "etl.delete_after_processing"),
            ("storage: 5", "storage"),
            ("storage: [5]", "storage"),
            ("storage: {paths: raw}", "storage.paths"),
            ("storage: {base_dir: {a: 1}}", "storage.base_dir"),
            ("ingestion: 5", "ingestion"),
            ("ingestion: {sources: {kraken: 5}}", "ingestion.sources.kraken"),
            ("ingestion: {sources: {coinbase: {products: BTC-USD}}}",
             "ingestion.sources.coinbase.products"),
            ("etl: {storage_output: 5}", "etl.storage_output"),
            ("etl: {storage_output: {backend: [1]}}", "etl.storage_output.backend"),
            ("etl: {storage_input: {paths: {raw_dir: null}}}", "etl.storage_input.paths.raw_dir"),
            ("etl: {threads: '${oc.env:NO_SUCH_VARIABLE}'}", "etl.threads"),
            ("etl: {threads: '${oc.env:HOME}'}", "etl.threads"),
            ("etl: {threads: '${no.such.key}'}", "etl.threads"),
            ("etl: {storage_output: {base_dir: '${oc.env:NO_SUCH_VARIABLE}'}}",
             "etl.storage_output.base_dir"),
        ],
    )  # fmt: skip
    def test_a_wrong_value_is_named_with_its_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, key: str
    ) -> None:
        monkeypatch.setenv("HOME", "not a number")
        message = refusal(tmp_path, text)
        assert re.search(rf"config\.yaml: '{re.escape(key)}'", message), message

    def test_the_file_that_is_named_is_the_one_that_is_wrong(self, tmp_path: Path) -> None:
        write(tmp_path / "conf", "config.yaml", "etl: {threads: 1}")
        write(tmp_path / "conf", "mine.yaml", "etl: {threads: '${oc.env:NO_SUCH_VARIABLE}'}")
        with pytest.raises(ConfigError, match=r"mine\.yaml.*NO_SUCH_VARIABLE"):
            load_config("mine")
        with pytest.raises(ConfigError, match=r"override: 'etl\.threads'"):
            load_config(overrides=["etl.threads=${oc.env:NO_SUCH_VARIABLE}"])

    def test_a_reference_that_a_later_layer_replaces_is_not_followed(self, tmp_path: Path) -> None:
        write(tmp_path / "conf", "config.yaml", "etl: {threads: '${oc.env:NO_SUCH_VARIABLE}'}")
        assert load_config(overrides=["etl.threads=4"]).etl.threads == 4

    @pytest.mark.parametrize(
        "text",
        ["a: b: c", "\ta: 1", "? [a]\n: b", "storage: {", "storage:\n  base_dir: a\n  base_dir: b"],
    )
    def test_bad_yaml_is_named_with_its_line(self, tmp_path: Path, text: str) -> None:
        assert re.search(r"config\.yaml, line \d: not valid YAML", refusal(tmp_path, text))

    def test_what_is_not_text_or_no_settings_is_refused(self, tmp_path: Path) -> None:
        assert "expected" in refusal(tmp_path, "- x")
        (tmp_path / "conf" / "config.yaml").write_bytes(b"a: \xff\xfe")
        with pytest.raises(ConfigError, match="not valid YAML"):
            load_config()
        assert "refers to nothing" in refusal(tmp_path, "storage: {base_dir: 'a${'}")

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("storage: {base_dir: ' '}", "storage.base_dir is empty"),
            ("storage: {base_dir: 'a%20b'}", "'%20'"),
            ("storage: {paths: {raw_dir: ../x}}", "storage.paths.raw_dir.*'..'"),
            ("storage: {paths: {raw_dir: /x}}", "storage.paths.raw_dir.*absolute"),
            ("storage: {paths: {ready_subdir: .x}}", "storage.paths.ready_subdir.*dot"),
            ("storage: {paths: {ready_subdir: active}}", "active_subdir.*ready_subdir.*own"),
            ("storage: {paths: {ready_subdir: Active}}", "active_subdir.*ready_subdir.*own"),
            ("storage: {paths: {ready_subdir: active/x}}", "ready_subdir.*active_subdir.*own"),
            ("storage: {paths: {ready_subdir: ''}}", "ready_subdir.*own"),
            ("storage: {paths: {processed_dir: raw}}", "processed_dir.*own"),
            ("storage: {paths: {processed_dir: ''}}", "processed_dir.*own"),
            ("storage: {paths: {processed_dir: raw/ready/coinbase}}", "processed_dir.*own"),
            ("etl: {storage_output: {paths: {processed_dir: ../x}}}",
             "etl.storage_output.paths.processed_dir"),
            ("storage: {backend: s3, base_dir: a, s3: {bucket: b}}", "'a'.*s3.bucket says 'b'"),
            ("etl: {storage_output: {backend: s3, base_dir: a/p, s3: {bucket: b}}}",
             "etl.storage_output.*'a'.*'b'"),
            ("etl: {threads: -1}", "'etl.threads'"),
            ("etl: {memory_limit_mb: 0}", "'etl.memory_limit_mb'"),
            ("ingestion: {segment_max_mb: .nan}", "'ingestion.segment_max_mb'"),
            ("ingestion: {flush_interval_seconds: 0}", "'ingestion.flush_interval_seconds'"),
            ("ingestion: {sources: {coinbase: {products: [[1]]}}}", "products' is a list of names"),
        ],
    )  # fmt: skip
    def test_settings_that_cannot_work_are_refused(
        self, tmp_path: Path, text: str, words: str
    ) -> None:
        assert re.search(words, refusal(tmp_path, text))

    def test_a_bucket_that_agrees_is_fine(self) -> None:
        config = load_config(
            overrides=["storage.backend=s3", "storage.base_dir=b/prefix", "storage.s3.bucket=b"]
        )
        assert config.storage.base_dir == "b/prefix"

    @pytest.mark.parametrize("text", ["x", "=5", "etl", " =1"])
    def test_an_override_without_key_or_value_is_refused(self, text: str) -> None:
        with pytest.raises(ConfigError, match="key=value"):
            load_config(overrides=[text])

    @pytest.mark.parametrize(
        "text",
        ["etl.=5", "etl..threads=1", ".=1", "etl.threads=", "a.b.c=1", "storage.paths=x",
         "storage.base_dir=[", "storage.base_dir=${x", "etl.storage_output=[]",
         "ingestion.sources.coinbase.products[0]=A", "storage.base_dir=null"],
    )  # fmt: skip
    def test_an_override_that_cannot_be_is_refused_in_our_own_words(self, text: str) -> None:
        with pytest.raises(ConfigError, match="override"):
            load_config(overrides=[text])

    @pytest.mark.parametrize(
        "text",
        ["kraken.trades=3d", "a.b.c=3d", "*.trades=3d", "archive=[1d]", "archive={a: 1d}"],
    )
    def test_retention_of_something_nested_says_how_a_table_is_written(self, text: str) -> None:
        with pytest.raises(ConfigError, match=r"'retention\..*retention\[coinbase\.trades\]=90d$"):
            load_config(overrides=[f"retention.{text}"])
        assert load_config(overrides=["retention[coinbase.trades]=90d"]).retention

    def test_an_overlay_that_does_not_exist_is_named_with_the_nearest(self) -> None:
        with pytest.raises(ConfigError, match="did you mean 'hybrid'"):
            load_config("hybird")
        with pytest.raises(ConfigError, match="there are: hybrid, local, s3"):
            load_config("zzzzz")
        with pytest.raises(ConfigError, match=r"nowhere\.yaml does not exist"):
            load_config("nowhere.yaml")

    def test_a_folder_without_a_base_file_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(ConfigError, match="does not exist"):
            load_config(config_dir=tmp_path / "nowhere")
        (tmp_path / "empty").mkdir()
        with pytest.raises(ConfigError, match=r"holds no config\.yaml"):
            load_config(config_dir=tmp_path / "empty")
        monkeypatch.setenv("FLUXFORGE_CONFIG_DIR", str(tmp_path / "empty"))
        with pytest.raises(ConfigError, match=r"holds no config\.yaml"):
            load_config()

    def test_a_file_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        shutil.copytree(SHIPPED, tmp_path / "conf")
        (tmp_path / "conf" / "mine.yaml").mkdir()
        with pytest.raises(ConfigError, match="mine"):
            load_config("mine")


class TestWhereItIsFound:
    def test_the_nearest_conf_folder_of_the_folder_or_its_parents(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        base = write(tmp_path / "conf", "config.yaml", "etl: {threads: 3}")
        deep = tmp_path / "notebooks" / "deep"
        deep.mkdir(parents=True)
        monkeypatch.chdir(deep)
        assert load_config().files == (base,)
        assert load_config().etl.threads == 3
        (tmp_path / "notebooks" / "conf").mkdir()  # holds no config.yaml: none of ours
        assert load_config().files == (base,)
        nearer = write(tmp_path / "notebooks" / "conf", "config.yaml", "etl: {threads: 4}")
        assert load_config().files == (nearer,)

    def test_the_files_are_told_in_order(self, tmp_path: Path) -> None:
        assert load_config().files == ()
        base = write(tmp_path / "conf", "config.yaml", "")
        one, two = write(tmp_path / "conf", "one.yaml", ""), write(tmp_path, "two.yaml", "")
        config = load_config("two.yaml", "one", overrides=["etl.threads=1"])
        assert config.files == (base, two, one)
        assert config.to_yaml().startswith(f"# {base}\n# {two}\n# {one}\nstorage:\n")
        assert config.to_dict()["files"] == [str(base), str(two), str(one)]

    def test_relative_folders_in_a_file_belong_to_its_project(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(
            tmp_path / "conf",
            "config.yaml",
            "storage: {base_dir: ./lake}\ningestion: {spool_dir: spool}\n"
            "etl: {storage_output: {base_dir: tables}}",
        )
        (tmp_path / "notebooks").mkdir()
        monkeypatch.chdir(tmp_path / "notebooks")
        config = load_config()
        assert config.storage.base_dir == str(tmp_path / "lake")
        assert config.ingestion.spool_dir == str(tmp_path / "spool")
        assert storage_config(config, "etl_input").base_dir == str(tmp_path / "lake")
        assert storage_config(config, "etl_output").base_dir == str(tmp_path / "tables")
        config = load_config(overrides=["storage.base_dir=./here", "etl.storage_input.backend=s3"])
        assert config.storage.base_dir == "./here"
        assert storage_config(config, "etl_input").base_dir == "./here"
        config = load_config(overrides=["etl.storage_output={backend: s3, base_dir: bucket}"])
        assert storage_config(config, "etl_output").base_dir == "bucket"
        # An overlay that came with FluxForge belongs to the project that uses it.
        assert load_config("local").storage.base_dir == str(tmp_path / "data")

    def test_what_no_file_says_belongs_to_the_working_directory(self, tmp_path: Path) -> None:
        write(tmp_path / "conf", "config.yaml", "etl: {threads: 3}")
        assert load_config().storage.base_dir == "./data"
        shutil.rmtree(tmp_path / "conf")
        assert load_config("local").storage.base_dir == "./data"

    @pytest.mark.parametrize("base_dir", ["F:/", "~/lake", "/mnt/lake", "//host/share"])
    def test_an_absolute_folder_stays_as_it_is(self, tmp_path: Path, base_dir: str) -> None:
        write(tmp_path / "conf", "config.yaml", f"storage: {{base_dir: '{base_dir}'}}")
        assert load_config().storage.base_dir == base_dir

    def test_a_file_outside_any_configuration_folder_is_its_own_project(
        self, tmp_path: Path
    ) -> None:
        path = write(tmp_path / "elsewhere", "mine.yaml", "storage: {base_dir: data}")
        assert load_config(path).storage.base_dir == str(tmp_path / "elsewhere" / "data")


class TestRoles:
    def test_a_role_that_states_nothing_is_the_storage_itself(self) -> None:
        config = load_config(overrides=["ingestion.storage={}"])
        for role in (None, "ingestion", "etl_input", "etl_output"):
            assert storage_config(config, role) is config.storage

    def test_a_role_states_only_what_differs_whatever_the_order(self, tmp_path: Path) -> None:
        first = write(tmp_path, "first.yaml", "ingestion: {storage: {paths: {raw_dir: mine}}}")
        config = load_config(first, overrides=["storage.paths.ready_subdir=done"])
        paths = storage_config(config, "ingestion").paths
        assert (paths.raw_dir, paths.ready_subdir) == ("mine", "done")
        assert config.to_dict()["ingestion"]["storage"] == {"paths": {"raw_dir": "mine"}}

    def test_a_role_may_refer_to_another(self, tmp_path: Path) -> None:
        path = write(
            tmp_path, "x.yaml",
            "ingestion: {storage: {base_dir: /a}}\netl: {storage_input: '${ingestion.storage}'}",
        )  # fmt: skip
        assert storage_config(load_config(path), "etl_input").base_dir == "/a"

    def test_an_unknown_role_is_named_with_those_there_are(self) -> None:
        with pytest.raises(ConfigError, match=r"'output'.*ingestion, etl_input, etl_output"):
            storage_config(load_config(), "output")

    def test_no_reference_quotes_what_it_leads_to(self, tmp_path: Path) -> None:
        path = write(
            tmp_path, "x.yaml",
            "storage: {s3: {aws_secret_access_key: HIDDEN}}\n"
            "etl: {threads: '${storage.s3.aws_secret_access_key}'}",
        )  # fmt: skip
        with pytest.raises(ConfigError, match=r"'etl\.threads' .* Integer") as caught:
            load_config(path)
        assert "HIDDEN" not in str(caught.value)
        assert caught.value.__suppress_context__


@pytest.mark.parametrize("file", ["storage: {base_dir: here, lease_seconds: 30}", None])
def test_what_one_loads_changes_nothing_for_others(tmp_path: Path, file: str | None) -> None:
    """Defaults and files are kept; threads load at the same time."""
    if file:
        (tmp_path / "conf").mkdir()
        (tmp_path / "conf" / "config.yaml").write_text(file)
    folder = tmp_path / "conf" if file else None
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("etl: {threads: 3, storage_output: {base_dir: there}}")
    first = load_config(config_dir=folder)
    overrides = [
        "storage.backend=s3", "storage.base_dir=b/x", "storage.s3.region=r",
        "storage.paths.raw_dir=other", "ingestion.sources.coinbase.products=[A]",
        "ingestion.sources.kraken=null", "ingestion.sources.bybit={}", "etl.threads=2",
    ]  # fmt: skip
    other = load_config(overlay, config_dir=folder, overrides=overrides)
    assert (other.storage.backend, other.etl.threads) == ("s3", 2)
    assert other.ingestion.sources["coinbase"].products == ["A"]
    assert load_config(config_dir=folder) == first
    assert load_config(config_dir=folder).storage.base_dir == first.storage.base_dir != "b/x"
    assert load_config(overlay, config_dir=folder).etl.threads == 3

    def load(number: int) -> int:
        found = load_config(overlay, config_dir=folder, overrides=[f"etl.threads={number}"])
        return found.etl.threads

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(load, range(1, 41))) == list(range(1, 41))
    assert load_config(config_dir=folder) == first
