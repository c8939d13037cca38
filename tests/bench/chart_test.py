"""Pictures: labels that stay out of each other's way, and dark mode."""
import re
import xml.etree.ElementTree as ElementTree

from bench import chart


def picture_of(path, charts):
    chart.write(path, charts, note="a machine")
    return path.read_text(encoding="utf-8")


def some_chart():
    out = chart.Chart("Title", "x", "y", log_x=True, log_y=True)
    out.line("ours", [(5, 80.0), (1000, 4.0), (50, None)])
    out.line("bound", [(5, 70.0), (1000, 3.0)], dashed=True)
    return out


def test_a_picture_has_its_texts_as_texts(tmp_path):
    svg = picture_of(tmp_path / "chart.svg", [some_chart(), some_chart()])
    ElementTree.fromstring(svg)
    for text in ("Title", "ours", "bound", "a machine", "100"):
        assert f">{text}</text>" in svg


def test_every_colour_of_a_chart_has_one_for_dark_mode(tmp_path):
    svg = picture_of(tmp_path / "chart.svg", [some_chart()])
    used = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", svg))
    assert chart.INK in used and chart.PAPER in used
    assert used <= set(chart.DARK)
    assert "prefers-color-scheme:dark" in svg


def test_the_same_data_give_the_same_picture(tmp_path):
    assert picture_of(tmp_path / "a.svg", [some_chart()]) == picture_of(tmp_path / "b.svg", [some_chart()])


def test_points_are_not_joined_and_lines_are():
    some = some_chart()
    some.points("alone", [(5, 9.0), (50, 8.0)])
    with chart.style():
        lines = {line.get_label(): line.get_linestyle() for line in chart.figure_of([some]).axes[0].get_lines()}
    assert lines == {"ours": "-", "bound": "--", "alone": "None"}


def test_names_of_points_at_one_place_do_not_cover_each_other():
    crowded = chart.Chart("Title", "x", "y")
    crowded.points("some", [(1.0, 1.0), (1.001, 1.0), (1.0, 1.001), (3.0, 4.0)], names=["one", "two", "three", "far"])
    assert chart.overlaps([crowded]) == []


def test_texts_that_cover_each_other_are_found():
    crowded = chart.Chart("Title", "x", "y")
    crowded.points("some", [(1.0, 1.0)] * 12 + [(2.0, 2.0)], names=["a long name"] * 12 + [""])
    assert any("cover each other" in fault for fault in chart.overlaps([crowded]))


def test_a_heat_map_shows_every_value(tmp_path):
    svg = picture_of(tmp_path / "map.svg", [chart.HeatMap("K", "source", "target", [[0.1, 0.9], [0.25, 1.0]], {(0, 1)})])
    for value in ("0.10", "0.90", "0.25", "1.00"):
        assert f">{value}</text>" in svg


def test_intervals_have_a_name_and_a_line_each(tmp_path):
    rows = [("closed book", -4.5, [-5.0, -4.0]), ("q8", -1.6, [-1.7, -1.5]), ("certain", 0.0, [0.0, 0.0])]
    some = chart.Intervals("Log p", "nats", rows)
    svg = picture_of(tmp_path / "intervals.svg", [some, some])
    for text in ("closed book", "q8", "certain", "nats"):
        assert f">{text}</text>" in svg
    with chart.style():
        lines = [line.get_xdata().tolist() for line in chart.figure_of([some]).axes[0].get_lines()]
    assert [-5.0, -4.0] in lines and [-1.6] in lines
    assert chart.overlaps([some, some]) == []
