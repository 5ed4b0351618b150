"""Bytes made by hand for the traps of each format, against what the formats' descriptions say."""

import struct

import h5py
import numpy as np
import pytest
from event_file_cases import CASES  # tests/perception/event_file_cases.py

from perception.events import DamagedError, EventStream, chunks, describe, read, write
from perception.events.files import seek


@pytest.fixture
def file(tmp_path):
    def put(name, *content):
        path = tmp_path / name
        path.write_bytes(b"".join(part if isinstance(part, bytes) else part.tobytes() for part in content))
        return path

    return put


def rows(stream):
    return list(zip(stream.t.tolist(), stream.x.tolist(), stream.y.tolist(), stream.p.astype(int).tolist()))


def raw(version, *words, extra=b"", end=True):
    kind = {"2.0": "<u4", "2.1": "<u8", "3.0": "<u2"}[version]
    head = f"% date 2024-01-01\n% evt {version}\n".encode() + extra + (b"% end\n" if end else b"")
    return head + np.array(words, kind).tobytes()


# EVT3 words
def ROW(y):
    return y


def X(x, p=1):
    return 2 << 12 | p << 11 | x


def BASE(x, p=1):
    return 3 << 12 | p << 11 | x


def V12(mask):
    return 4 << 12 | mask


def V8(mask):
    return 5 << 12 | mask


def LOW(t):
    return 6 << 12 | t


def HIGH(t):
    return 8 << 12 | t


def test_evt3_vectors_go_on_from_where_the_last_ended(file):
    words = [
        HIGH(1),
        LOW(5),
        ROW(7),
        BASE(100, 1),
        V12(0b1000_0000_0001),
        V12(0b10),
        V8(0x81),
        V8(1),
        BASE(3, 0),
        V8(2),
    ]
    t = 4096 + 5
    expected = [(t, x, 7, 1) for x in (100, 111, 113, 124, 131, 132)] + [(t, 4, 7, 0)]
    assert rows(read(file("a.raw", raw("3.0", *words)))) == expected


def test_evt3_passes_over_triggers_imu_padding_and_what_has_no_time_or_row_yet(file):
    words = [
        X(1),
        LOW(3),
        ROW(2),
        X(1),
        HIGH(0),
        LOW(3),
        0x9ABC,
        0xA101,
        0xD123,
        0xE456,
        0x7001,
        0xF002,
        0x1FFF,
        X(4, 0),
    ]
    assert rows(read(file("a.raw", raw("3.0", *words)))) == [(3, 4, 2, 0)]
    assert len(read(file("b.raw", raw("3.0", HIGH(0), X(1), ROW(1))))) == 0


def test_evt3_clock_wraps_every_16_8_seconds(file):
    words = [
        ROW(0),
        HIGH(4095),
        LOW(4095),
        X(1),
        HIGH(0),
        LOW(0),
        X(2),
        HIGH(2000),
        HIGH(4000),
        HIGH(1),
        LOW(1),
        X(3),
    ]
    assert rows(read(file("a.raw", raw("3.0", *words)))) == [
        (2**24 - 1, 1, 0, 1), (2**24, 2, 0, 1), (2 * 2**24 + 4096 + 1, 3, 0, 1)
    ]  # fmt: skip


def test_evt3_small_steps_back_are_sorted_and_no_wraps(file):
    words = [
        ROW(0),
        HIGH(10),
        LOW(9),
        X(1),
        HIGH(9),
        LOW(9),
        X(2),
        HIGH(10),
        LOW(10),
        X(3),
        HIGH(12),
        LOW(0),
        X(4),
    ]
    expected = [(9 * 4096 + 9, 2, 0, 1), (40969, 1, 0, 1), (40970, 3, 0, 1), (49152, 4, 0, 1)]
    path = file("a.raw", raw("3.0", *words))
    assert rows(read(path)) == expected
    assert [row for part in chunks(path, 1) for row in rows(part)] == expected
    assert rows(read(path, start=40970)) == expected[2:]
    assert rows(read(path, start=36873, stop=40969)) == expected[:1]
    with pytest.raises(
        DamagedError, match=rf"a\.raw:byte {len(raw('3.0')) + 12}: time 36873 us after 40969 us"
    ):
        read(path, late=0)
    across = [
        ROW(0),
        HIGH(4095),
        LOW(0),
        X(1),
        HIGH(0),
        LOW(1),
        X(2),
        HIGH(4095),
        LOW(4090),
        X(3),
        HIGH(0),
        LOW(2),
        X(4),
    ]
    assert [t for t, *_ in rows(read(file("b.raw", raw("3.0", *across))))] == [
        4095 << 12, (4095 << 12) + 4090, 2**24 + 1, 2**24 + 2
    ]  # fmt: skip


def test_evt3_a_new_high_time_does_not_keep_the_old_low_time(file):
    words = [ROW(0), HIGH(1), LOW(4000), X(1), HIGH(2), X(2), HIGH(2), LOW(1), X(3), HIGH(2), X(4)]
    assert [t for t, *_ in rows(read(file("a.raw", raw("3.0", *words))))] == [8096, 8192, 8193, 8193]


def test_a_long_gap_shows_every_wrap(tmp_path):
    times = [5, 100_000_000, 100_000_001, 3_600_000_000, 40_000_000_000]  # beyond EVT2's 4.8 hours, too
    stream = EventStream([1] * 5, [1] * 5, times, [1] * 5, 9, 9)
    for name in ("evt2", "evt21", "evt3"):
        write([stream[:2], stream[2:]], tmp_path / "a.raw", format=name)
        assert read(tmp_path / "a.raw") == stream, name


def test_evt_time_can_start_at_the_first_high_time_as_in_openeb(file):
    evt3 = file("a.raw", raw("3.0", ROW(0), HIGH(7), LOW(5), X(1), HIGH(8), LOW(6), X(2)))
    assert [t for t, *_ in rows(read(evt3, shift=True))] == [5, 4102]
    assert rows(read(evt3, shift=True, start=6)) == [(4102, 2, 0, 1)]
    evt2 = file("b.raw", raw("2.0", 8 << 28 | 100, 1 << 28 | 3 << 22))
    assert [t for t, *_ in rows(read(evt2))] == [6403]
    assert [t for t, *_ in rows(read(evt2, shift=True))] == [3]
    assert len(read(file("c.raw", raw("3.0")), shift=True)) == 0
    with pytest.raises(DamagedError, match="no TIME_HIGH"):
        read(file("d.raw", raw("3.0", X(1))), shift=True)


def test_evt2_fields_and_wrap(file):
    on, off, high, trigger = 1 << 28, 0, 8 << 28, 10 << 28 | 1 << 8 | 1
    word = lambda kind, t, x, y: kind | t << 22 | x << 11 | y  # noqa: E731
    words = [
        word(on, 1, 5, 5),
        high | (1 << 28) - 1,
        word(on, 63, 2047, 1),
        trigger,
        word(off, 63, 3, 2047),
        high,
        word(on, 0, 1, 2),
    ]
    end = (1 << 34) - 1
    assert rows(read(file("a.raw", raw("2.0", *words)))) == [
        (end, 2047, 1, 1),
        (end, 3, 2047, 0),
        (end + 1, 1, 2, 1),
    ]


def evt21(kind, t, x=0, y=0, mask=0):
    return kind << 60 | (t if kind == 8 else t << 54 | x << 43 | y << 32) | mask


def test_evt21_masks(file):
    words = [
        8 << 60 | 2 << 32,
        evt21(1, 3, 64, 9, 0x80000001),
        evt21(0, 4, 32, 8, 0b110),
        10 << 60 | 5,
        evt21(1, 5, 0, 0, 0),
    ]
    expected = [(131, 64, 9, 1), (131, 95, 9, 1), (132, 33, 8, 0), (132, 34, 8, 0)]
    assert rows(read(file("a.raw", raw("2.1", *words)))) == expected
    legacy = [(word >> 32 | word << 32) & (2**64 - 1) for word in words]
    assert rows(read(file("b.raw", raw("2.1", *legacy)))) == expected
    told = b"% format EVT21;height=720;width=1280;endianness=legacy\n"
    path = file("c.raw", raw("2.1", *legacy, extra=told))
    assert rows(read(path)) == expected
    assert describe(path).size == (1280, 720)


def test_evt21_writes_one_word_for_neighbours(tmp_path):
    stream = EventStream(np.arange(32, 64), [5] * 32, [7] * 32, [1] * 32, 64, 64)
    write(stream, tmp_path / "a.raw", format="evt21")
    content = (tmp_path / "a.raw").read_bytes()
    words = np.frombuffer(content[content.index(b"% end\n") + 6 :], "<u8")
    assert len(words) == 2
    assert words[1] & np.uint64(0xFFFFFFFF) == 0xFFFFFFFF
    assert read(tmp_path / "a.raw") == stream


def test_evt_headers_of_all_ages(file):
    words = [HIGH(0), LOW(1), ROW(2), X(3)]
    for extra, size in {
        b"% geometry 1280x720\n": (1280, 720),
        b"% format EVT3;height=480;width=640\n": (640, 480),
        b"% Width 304\n% Height 240\n": (304, 240),
        b"% format EVT3\n": None,
    }.items():
        for end in (True, False):
            path = file("a.raw", raw("3.0", *words, extra=extra, end=end))
            assert describe(path).size == size
            assert rows(read(path)) == [(1, 3, 2, 1)]
    only = b"% format EVT3;height=48;width=64\n% end\n" + np.array(words, "<u2").tobytes()
    assert describe(file("a.raw", only)).format == "evt3"


@pytest.mark.parametrize("head", [b"", b"% evt 4.0\n% end\n", b"% date 2024-01-01\n% end\n", b"\x89PNG\r\n"])
def test_words_that_no_header_names_are_not_guessed_at(file, head):
    """An EVT2 file with a damaged header was once read as EVT3, and text as no events."""
    words = np.array([8 << 28, 5 << 11 | 7], "<u4")  # of EVT2: a time, and an event
    path = file("a.raw", head, words)
    for call in (read, describe, lambda path: next(chunks(path))):
        with pytest.raises(DamagedError, match=r"a\.raw:byte 0: no header that names EVT2.*format="):
            call(path)
    if head[:1] in (b"", b"%"):
        assert rows(read(path, format="evt2")) == [(0, 5, 7, 0)]


def test_evt_header_ends_before_words_that_begin_like_one(file):
    words = np.array([ROW(0x25), HIGH(0), ROW(0x25), X(1)], "<u2")  # 0x25 is "%"
    assert words.tobytes()[:1] == b"%"
    assert rows(read(file("a.raw", b"% evt 3.0\n", words))) == [(0, 1, 0x25, 1)]


@pytest.mark.parametrize("short", [0, 10**6])
def test_dat_clock_wraps_after_71_minutes(file, monkeypatch, short):
    monkeypatch.setattr(seek, "STRIDE", 8)
    monkeypatch.setattr(seek, "SHORT", short)
    records = [(2**32 - 2, 5 | 6 << 14 | 1 << 28), (3, 1 | 2 << 14), (2**31 - 5, 0), (2**32 - 9, 0), (0, 7)]
    content = b"".join(struct.pack("<II", *record) for record in records)
    for kind in (0, 12):
        path = file(
            "a.dat", b"% Data file\n% Version 2\n% Width 304\n% Height 240\n", bytes((kind, 8)), content
        )
        expected = [
            (2**32 - 2, 5, 6, 1),
            (2**32 + 3, 1, 2, 0),
            (3 * 2**31 - 5, 0, 0, 0),
            (2**33 - 9, 0, 0, 0),
            (2**33, 7, 0, 0),
        ]
        assert rows(read(path)) == expected
        assert rows(read(path, start=2**32 + 4)) == expected[2:]
        assert rows(read(path, start=2**33)) == expected[4:]
        assert describe(path).last == 2**33


def test_dat_refuses_gaps_that_no_reader_could_count(tmp_path):
    stream = EventStream([0, 0], [0, 0], [0, 2**31 + 1], [0, 0], 9, 9)
    with pytest.raises(ValueError, match="gap"):
        write(stream, tmp_path / "a.dat")
    with pytest.raises(ValueError, match="gap"):
        write([stream[:1], stream[1:]], tmp_path / "a.dat")


def test_aedat2_addresses_of_a_davis(file):
    def address(x, y, p, more=0):
        return more | y << 22 | x << 12 | p << 11

    head = b"#!AER-DAT2.0\r\n# AEChip: eu.seebetter.ini.chips.davis.DAVIS240C\r\n"
    records = [
        (address(0, 0, 1), 10),
        (address(1, 2, 1, 1 << 31), 11),
        (address(1, 2, 1, 1 << 10), 12),
        (address(239, 179, 0), 13),
    ]
    records = np.array(records, ">u4")
    path = file("a.aedat", head, records)
    assert rows(read(path)) == [(10, 239, 179, 1), (13, 0, 0, 0)]
    records[3, 0] = address(240, 0, 0)
    with pytest.raises(DamagedError, match=rf"a\.aedat:byte {len(head) + 24}: pixel .* sensor of 240 x 180"):
        read(file("a.aedat", head, records))


def test_aedat2_addresses_of_a_dvs128_and_a_header_without_camera(file):
    records = np.array([(10 << 8 | 20 << 1 | 0, 5), (1 << 15 | 3, 6), (127 << 8 | 127 << 1 | 1, 7)], ">u4")
    path = file("a.aedat", b"#!AER-DAT2.0\r\n# Timestamps tick is 1 us\r\n", records)
    with pytest.raises(ValueError, match="names no camera"):
        read(path)
    assert rows(read(path, camera="dvs128")) == [(5, 107, 117, 1), (7, 0, 0, 0)]


def test_aedat2_header_ends_before_an_address_that_begins_like_one(file):
    address = 0x23000000 | 5 << 12  # the first byte is "#", y = 140
    path = file(
        "a.aedat", b"#!AER-DAT2.0\r\n# DAVIS346\r\n", np.array([(address, 0x0A41), (address, 0x0A42)], ">u4")
    )
    assert [y for _, _, y, _ in rows(read(path))] == [259 - 140] * 2


def test_aedat2_clock_wraps(file):
    records = np.array([(0, 2**32 - 1), (0, 4)], ">u4")
    path = file("a.aedat", b"#!AER-DAT2.0\r\n# DAVIS346\r\n", records)
    assert read(path).t.tolist() == [2**32 - 1, 2**32 + 4]


def packet(kind, events, size=8, overflows=0, number=None):
    number = len(events) // size if number is None else number
    return struct.pack("<hhiiiiii", kind, 1, size, 4, overflows, number, number, number) + events


def polarity(t, x, y, p, valid=1):
    return struct.pack("<Ii", x << 17 | y << 2 | p << 1 | valid, t)


AEDAT3 = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DAVIS346\r\n#!END-HEADER\r\n"


def test_aedat3_other_packets_overflows_and_invalid_events(file):
    content = [
        packet(0, bytes(16)),  # special
        packet(1, polarity(2**31 - 1, 3, 4, 1) + polarity(2**31 - 1, 3, 5, 0, valid=0)),
        packet(2, bytes(100), 100),  # frame
        packet(1, b""),
        packet(1, polarity(0, 345, 259, 0), overflows=1),
        packet(3, bytes(36), 36),  # IMU
    ]
    path = file("a.aedat", AEDAT3, *content)
    expected = [(2**31 - 1, 3, 4, 1), (2**31, 345, 259, 0)]
    assert rows(read(path)) == expected
    assert rows(read(path, start=2**31)) == expected[1:]
    info = describe(path)
    assert (info.size, info.first, info.last) == ((346, 260), 2**31 - 1, 2**31)


def test_aedat3_refuses_what_it_does_not_read(file):
    with pytest.raises(DamagedError, match="format Serial-TS"):
        read(file("a.aedat", AEDAT3.replace(b"RAW", b"Serial-TS")))
    with pytest.raises(DamagedError, match="#!END-HEADER"):
        read(file("a.aedat", AEDAT3[:40]))
    with pytest.raises(DamagedError, match="time -1"):
        read(file("a.aedat", AEDAT3, packet(1, polarity(-1, 0, 0, 0))))
    with pytest.raises(DamagedError, match="events of 16 bytes"):
        read(file("a.aedat", AEDAT3, packet(1, bytes(16), 16)))


def test_nmnist_overflow_rows_and_bit_fields(file):
    def record(x, y, p, t):
        return bytes((x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255))

    content = [
        record(33, 5, 1, 0x7F1234),
        record(0, 240, 0, 0),
        record(1, 239, 0, 0x7F1234),
        record(0, 240, 1, 9),
        record(2, 0, 1, 0x7FFFFF),
    ]
    path = file("a.bin", *content)
    first = 0x7F1234
    assert rows(read(path)) == [(first, 33, 5, 1), (first + 8192, 1, 239, 0), (0x7FFFFF + 16384, 2, 0, 1)]
    with pytest.raises(
        DamagedError, match=r"a\.bin:byte 10: pixel \(1, 239\); accepted: pixels of a sensor of 34 x 34"
    ):
        read(path, size=(34, 34))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"t,x,y,p\n5,1,2,0\n6,3,4,1\n", [(5, 1, 2, 0), (6, 3, 4, 1)]),
        (
            b"\xef\xbb\xbfX, Y, Polarity, Timestamp\r\n1, 2, -1, 5\r\n3, 4, 1, 6\r\n",
            [(5, 1, 2, 0), (6, 3, 4, 1)],
        ),
        (b"timestamp_ns,x,y,pol\n5499,1,2,0\n5500,3,4,1\n", [(5, 1, 2, 0), (6, 3, 4, 1)]),
        (b"x y p t[s]\n1 2 0 5\n", [(5_000_000, 1, 2, 0)]),
        (b"0.000005 1 2 0\n\n0.000006 3 4 1\n", [(5, 1, 2, 0), (6, 3, 4, 1)]),
        (b"1468940293.844375943 1 2 0\n", [(1468940293844376, 1, 2, 0)]),
        (b"0 1 2 0\n1.5e-05 3 4 1\n", [(0, 1, 2, 0), (15, 3, 4, 1)]),
        (b"640 480\n0.1 639 479 0\n", [(100_000, 639, 479, 0)]),
        (b"# from v2e\n# t x y p\n5 1 2 0", [(5, 1, 2, 0)]),
        (b"1700000000123456789 1 2 0\n", [(1700000000123457, 1, 2, 0)]),
        (b"1700000000123456 1 2 0\n", [(1700000000123456, 1, 2, 0)]),
        (b"index,t,x,y,p,label\n0,5,1,2,0,9\n", [(5, 1, 2, 0)]),
    ],
)
def test_text_of_many_kinds(file, content, expected):
    assert rows(read(file("a.txt", content))) == expected
    assert rows(read(file("a.csv", content))) == expected


def test_text_columns_and_unit_are_what_the_caller_says(file):
    path = file("a.csv", b"1,2,0,5\n3,4,1,6\n")
    assert rows(read(path, columns="xypt")) == [(5, 1, 2, 0), (6, 3, 4, 1)]
    assert rows(read(path, columns="xypt", unit="ms")) == [(5000, 1, 2, 0), (6000, 3, 4, 1)]
    assert rows(read(file("b.csv", b"a,b,c,d,e\n1,2,9,0,5\n"), columns="xy_pt", format="csv")) == [
        (5, 1, 2, 0)
    ]
    with pytest.raises(ValueError, match=r"a\.csv:line 1: an event"):  # x y p t taken for t x y p
        read(path)
    for columns in ("xyt", "xyptt", "abcd"):
        with pytest.raises(ValueError, match="columns must name"):
            read(path, columns=columns)
    with pytest.raises(ValueError, match="unit must be one of"):
        read(path, unit="min")


def hdf5(path, **datasets):
    with h5py.File(path, "w") as target:
        for name, value in datasets.items():
            target[name.replace("__", "/")] = value
    return path


def test_hdf5_dsec_offset_and_index(tmp_path):
    t = np.array([0, 999, 1000, 1500, 4000, 4001], "u4")
    more = {"t_offset": np.int64(50_000_000), "ms_to_idx": np.array([0, 2, 4, 4, 4], "u8")}
    path = hdf5(
        tmp_path / "a.h5", events__x=t * 0 + 639, events__y=t * 0, events__t=t, events__p=t % 2, **more
    )
    stream = read(path)
    assert (stream.width, stream.height) == (640, 480)
    assert stream.t.tolist() == (t.astype(int) + 50_000_000).tolist()
    for start in range(49_999_990, 50_004_010, 7):
        assert read(path, start, start + 1200) == stream.between(start, start + 1200)


@pytest.mark.parametrize("index", [[0, 0, 0, 0, 0], [6, 6, 6, 6, 6], [2**63, 1, 2, 9, 4], [0, 1, 1, 1, 1]])
def test_hdf5_a_wrong_index_does_not_mislead(tmp_path, index):
    t = np.array([0, 999, 1000, 1500, 4000, 4001], "u4")
    path = hdf5(
        tmp_path / "a.h5",
        events__x=t * 0,
        events__y=t * 0,
        events__t=t,
        events__p=t % 2,
        ms_to_idx=np.array(index, "u8"),
    )
    for start in range(0, 4100, 100):
        assert read(path, start) == read(path).between(start, 10**6)


def test_hdf5_layouts_of_others(tmp_path):
    x, y, p = np.array([1, 345]), np.array([2, 259]), np.array([-1, 1])
    seconds = np.array([1504645177.42, 1504645177.420001])
    table = np.column_stack((x, y, seconds, p))
    path = hdf5(tmp_path / "a.hdf5", davis__left__events=table, davis__right__events=table[:1])
    stream = read(path)
    assert rows(stream) == [(1504645177420000, 1, 2, 0), (1504645177420001, 345, 259, 1)]
    assert (stream.width, stream.height) == (346, 260)
    assert read(path, group="davis/right") == stream[:1]
    cnn = hdf5(tmp_path / "b.h5", events__xs=x, events__ys=y, events__ts=seconds, events__ps=p > 0)
    assert rows(read(cnn)) == rows(stream)
    v2e = hdf5(tmp_path / "c.h5", events=np.column_stack(([7, 9], x, y, p > 0)).astype("u4"))
    assert rows(read(v2e)) == [(7, 1, 2, 0), (9, 345, 259, 1)]
    cd = np.zeros(2, [("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
    cd["x"], cd["y"], cd["p"], cd["t"] = x, y, p > 0, [7, 9]
    assert rows(read(hdf5(tmp_path / "d.h5", CD__events=cd))) == [(7, 1, 2, 0), (9, 345, 259, 1)]
    with pytest.raises(DamagedError, match="no events under"):
        read(hdf5(tmp_path / "e.h5", other=x))


def test_hdf5_units(tmp_path):
    x, t = np.zeros(2, int), np.array([1, 2])
    whole = hdf5(tmp_path / "a.h5", events__x=x, events__y=x, events__t=t, events__p=x)
    assert read(whole).t.tolist() == [1, 2]
    assert read(whole, unit="ms").t.tolist() == [1000, 2000]
    assert read(whole, unit="ms", start=1001).t.tolist() == [2000]
    real = hdf5(tmp_path / "b.h5", events__x=x, events__y=x, events__t=t * 1.0, events__p=x)
    assert read(real).t.tolist() == [1_000_000, 2_000_000]
    assert read(real, unit="us").t.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("unit", "t"),
    [
        ("s", [0.0, *[100.6e-6] * 5, 200e-6]),  # as MVSEC has them: 101 us, rounded
        ("s", [0.0, *[249 / 1e6] * 5, 0.5]),  # in float64, times 10^6, less than 249
        ("ns", [0, *[1600] * 3, *[1700] * 2, 5000]),
        ("ms", [0.0, *[0.9996] * 5, 2.0]),
    ],
)
@pytest.mark.parametrize("table", [False, True])
def test_hdf5_windows_are_of_rounded_times(tmp_path, unit, t, table):
    """All but the last of several events at the beginning of a window were once passed over."""
    x = np.arange(7)
    if table:
        path = hdf5(tmp_path / "a.h5", events=np.column_stack((x, x, t, x % 2)).astype(float))
    else:
        path = hdf5(tmp_path / "a.h5", events__x=x, events__y=x, events__t=np.array(t), events__p=x % 2)
    whole = read(path, unit=unit)
    assert len(set(whole.t.tolist())) == 3
    for start in {int(time) + step for time in whole.t for step in (-1, 0, 1)}:
        assert read(path, start=start, unit=unit, size=(7, 7)) == whole.between(start, 10**9), start


def test_hdf5_refuses_halves_of_pixels_and_missing_times(tmp_path):
    x, t = np.array([1.0, 1.5]), np.array([1.0, 2.0])
    path = hdf5(tmp_path / "a.h5", events__x=x, events__y=t, events__t=t, events__p=t * 0)
    with pytest.raises(DamagedError, match=r"a\.h5:event 1: an event .*1\.5"):
        read(path)
    assert len(read(path, recover=True)) == 1
    path = hdf5(
        tmp_path / "b.h5", events__x=t, events__y=t, events__t=np.array([np.nan, 2.0]), events__p=t * 0
    )
    with pytest.raises(DamagedError, match=r"b\.h5:event 0: an event .*nan"):
        read(path)


def test_npz_of_others(tmp_path):
    table = np.zeros(2, [("x", "<u2"), ("y", "<u2"), ("t", "<f8"), ("p", "?")])
    table["x"], table["t"], table["p"] = [1, 2], [0.5, 0.75], [0, 1]
    np.savez(tmp_path / "a.npz", event_data=table)  # N-ImageNet
    assert rows(read(tmp_path / "a.npz")) == [(500_000, 1, 0, 0), (750_000, 2, 0, 1)]
    np.savez(
        tmp_path / "b.npz", xs=table["x"], ys=table["y"], timestamps=[5, 6], pol=[-1, 1], label=np.array(3)
    )
    assert rows(read(tmp_path / "b.npz")) == [(5, 1, 0, 0), (6, 2, 0, 1)]
    assert rows(read(tmp_path / "b.npz", unit="ms"))[1][0] == 6000


def test_npz_is_never_unpickled(tmp_path):
    class Loud:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    odd = np.array([Loud(), Loud()], object)
    np.savez(tmp_path / "a.npz", x=odd, y=[1, 1], t=[1, 2], p=[0, 0], allow_pickle=True)
    with pytest.raises(DamagedError, match="no events in arrays"):
        read(tmp_path / "a.npz")


def test_the_other_stream_of_an_aedat4_file_can_be_asked_for(tmp_path):
    path = CASES["aedat4"].write(CASES["aedat4"].stream(10), tmp_path)
    assert len(read(path, stream=0)) == 10
    with pytest.raises(ValueError, match=r"streams of events are \[0\], got stream=5"):
        read(path, stream=5)


def test_a_bag_of_ros_2(tmp_path):
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    store.register(
        get_types_from_msg(
            "uint16 x\nuint16 y\nbuiltin_interfaces/Time ts\nbool polarity\n", "dvs_msgs/msg/Event"
        )
    )
    store.register(
        get_types_from_msg(
            "std_msgs/Header header\nuint32 height\nuint32 width\ndvs_msgs/Event[] events\n",
            "dvs_msgs/msg/EventArray",
        )
    )
    types = store.types
    stream = CASES["bag"].stream(100)

    def message(part, frame):
        stamp = types["builtin_interfaces/msg/Time"](sec=1, nanosec=0)
        events = [
            types["dvs_msgs/msg/Event"](
                x=x, y=y, ts=type(stamp)(sec=t // 10**6, nanosec=t % 10**6 * 1000), polarity=bool(p)
            )
            for t, x, y, p in rows(part)
        ]
        header = types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame)
        return types["dvs_msgs/msg/EventArray"](header=header, height=260, width=346, events=events)

    for plugin in (StoragePlugin.SQLITE3, StoragePlugin.MCAP):
        path = tmp_path / plugin.name
        with Writer(path, version=9, storage_plugin=plugin) as bag:
            connection = bag.add_connection("/events", "dvs_msgs/msg/EventArray", typestore=store)
            for i, size in enumerate((0, 1, 2, 40, 57)):
                part = stream[sum((0, 1, 2, 40, 57)[:i]) :][:size]
                content = store.serialize_cdr(message(part, "f" * i), "dvs_msgs/msg/EventArray")
                bag.write(connection, i, content)
        assert read(path, format="bag") == stream
        assert read(path) == stream
        assert read(path, 3_000_000, 5_000_000) == stream.between(3_000_000, 5_000_000)


def test_topics_of_a_bag(tmp_path):
    stream = CASES["bag"].stream(10)
    write(stream, tmp_path / "a.bag", topic="/left/events")
    assert read(tmp_path / "a.bag", topic="/left/events") == stream
    with pytest.raises(DamagedError, match=r"topics are \[\('/left/events'"):
        read(tmp_path / "a.bag", topic="/right/events")


@pytest.mark.parametrize("told", ["ns", np.bytes_("days")])
def test_a_unit_in_hdf5_that_cannot_be_taken_is_refused_and_overruled(told, tmp_path):
    stream = CASES["hdf5"].stream(20)
    path = CASES["hdf5"].write(stream, tmp_path)
    with h5py.File(path, "a") as target:
        target["events/t"].attrs["unit"] = told
    with pytest.raises(ValueError, match=r"unit.*unit="):
        read(path)
    assert read(path, unit="us") == stream
    with h5py.File(path, "a") as target:
        target["events/t"].attrs["unit"] = np.bytes_("ms")
    assert (read(path).t == 1000 * stream.t).all()
