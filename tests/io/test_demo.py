"""The parts of the demo that need no server: its files, what it chooses to read, what it counts."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from seekfs_io.demo.dataset import KIB, MIB, SIZES_V1, SIZES_V2, Dataset, make_first, make_second
from seekfs_io.demo.reads import PAGE_SIZE_BYTES, Tally, choose_reads
from seekfs_io.demo.report import Counters, Row, as_document, metric_sum, render


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Dataset]:
    directory = tmp_path_factory.mktemp("demo")
    first = make_first(directory / "v1", 200 * MIB)
    return first, make_second(directory / "v2", first)


def test_the_first_version_has_files_of_every_kind(versions: tuple[Dataset, Dataset]) -> None:
    first, _ = versions
    assert 200 * MIB <= first.size_bytes < 201 * MIB
    sizes = {path: file.stat().st_size for path, file in first.files.items()}
    assert sizes.items() >= SIZES_V1.items()
    assert {0, 1, PAGE_SIZE_BYTES - 1, PAGE_SIZE_BYTES, PAGE_SIZE_BYTES + 1} <= set(sizes.values())
    shards = [file for path, file in first.files.items() if path.startswith("pylib/")]
    assert shards
    names: list[str] = []
    for shard in shards:
        with tarfile.open(shard) as opened:
            names += opened.getnames()
            assert {member.mtime for member in opened} == {0}
    assert "json/decoder.py" in names
    assert len(names) == len(set(names))


def test_the_second_version_changes_what_it_says(versions: tuple[Dataset, Dataset]) -> None:
    first, second = versions
    assert set(second.files) == set(first.files) | set(SIZES_V2)
    for path, file in second.files.items():
        if path in SIZES_V2:
            assert file.stat().st_size == SIZES_V2[path]
            assert path not in first.files or file.read_bytes() != first.files[path].read_bytes()
        else:
            assert file == first.files[path]


def test_the_files_are_the_same_on_every_run(versions: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    first, second = versions
    again = make_second(tmp_path, first)
    for path in SIZES_V2:
        assert again.files[path].read_bytes() == second.files[path].read_bytes()


def test_the_reads_are_the_same_on_every_run_and_go_everywhere(versions: tuple[Dataset, Dataset]) -> None:
    first, _ = versions
    reads = choose_reads(first)
    assert reads == choose_reads(first)
    sizes = {path: file.stat().st_size for path, file in first.files.items()}
    items = [*reads.ranges, *(item for batch in reads.batches for item in batch)]
    assert all(off >= 0 and off + length <= sizes[path] for path, off, length in items)
    assert any(length == 0 for _, _, length in items)
    assert any(off + length == sizes[path] for path, off, length in items)
    crossing = [
        item
        for item in reads.ranges
        if item[1] // PAGE_SIZE_BYTES != (item[1] + item[2] - 1) // PAGE_SIZE_BYTES
    ]
    assert len(crossing) >= 3
    # Each kind has files of its own: what one has read is not warm for another.
    ranged = {path for path, _, _ in reads.ranges}
    batched = {path for batch in reads.batches for path, _, _ in batch}
    assert not ranged & batched
    assert not (ranged | batched) & set(reads.wholes)


def test_a_python_without_library_sources_still_has_reads(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(bytes(64 * KIB))
    reads = choose_reads(Dataset(1, {"train/a": file}))
    assert reads.batches == ()
    assert reads.ranges


def test_counters_and_rows_add_up() -> None:
    assert Counters(7, 90).since(Counters(2, 50)) == Counters(5, 40)
    rows = [
        Row(
            "ranges",
            cold=Tally(10, 5_000_000, 0.5),
            warm=Tally(10, 5_000_000, 0.1),
            gets_made=3,
            gets_saved=17,
        ),
        Row("once more", warm=Tally(1, 1 << 20, 0.25), gets_made=0, gets_saved=1),
    ]
    table = render(rows).splitlines()
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in table if line.startswith("│")]
    assert cells == [
        ["ranges", "20", "9.5", "3", "17", "10", "50"],
        ["once more", "1", "1.0", "0", "1", "—", "4"],
        ["together", "21", "10.5", "3", "18", "10", "17"],
    ]
    document = as_document(rows)[0]
    assert document["reads"] == 20
    assert document["warm"] == {"reads": 10, "bytes": 5_000_000, "seconds": 0.1}


def test_a_metric_is_summed_over_the_samples_with_the_labels() -> None:
    text = (
        "# TYPE gets counter\n"
        'gets_total{kind="pages",outcome="ok"} 3\n'
        'gets_total{kind="pages",outcome="busy"} 2\n'
        'gets_total{kind="other",outcome="ok"} 40\n'
    )
    assert metric_sum(text, "gets_total", kind="pages") == 5
    assert metric_sum(text, "gets_total") == 45
    assert metric_sum(text, "nothing") == 0
