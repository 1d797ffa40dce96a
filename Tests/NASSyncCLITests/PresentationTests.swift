import Testing

@testable import NASSyncCLI

@Suite("What people see")
struct PresentationTests {
  @Test(
    "bytes",
    arguments: [
      (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1500, "1.5 kB"), (99_949, "99.9 kB"), (99_950, "100 kB"), (999_499, "999 kB"),
      (999_500, "1.0 MB"), (20_194_801, "20.2 MB"), (3_221_225_472, "3.2 GB"), (UInt64.max, "18.4 EB"),
    ] as [(UInt64, String)])
  func bytes(_ count: UInt64, text: String) { #expect(Quantities.bytes(count) == text) }

  @Test(
    "durations",
    arguments: [
      (0, "0 s"), (-1, "0 s"), (.nan, "0 s"), (.infinity, "0 s"), (0.45, "450 ms"), (0.9996, "1.0 s"), (4.24, "4.2 s"), (9.96, "10 s"),
      (59.6, "1 min 00 s"),
      (185, "3 min 05 s"), (7620, "2 h 07 min"), (273_600, "3 d 4 h"), (1e300, "11574074 d 1 h"),
    ] as [(Double, String)])
  func durations(_ seconds: Double, text: String) { #expect(Quantities.duration(seconds) == text) }

  @Test("rates, clocks and counts")
  func otherQuantities() {
    #expect(Quantities.rate(38_100_000) == "38.1 MB/s")
    #expect(Quantities.rate(.nan) == "0 B/s" && Quantities.rate(-5) == "0 B/s" && Quantities.rate(1e300) == "1.0 EB/s")
    #expect(Quantities.clock(7) == "0:07" && Quantities.clock(754) == "12:34" && Quantities.clock(3723) == "1:02:03")
    #expect(Quantities.clock(6.2) == "0:07" && Quantities.clock(.infinity) == "0:00")
    #expect(
      Quantities.count(1, "run") == "1 run" && Quantities.count(12_345, "file") == "12,345 files" && Quantities.grouped(-1000) == "-1,000")
    #expect(Quantities.grouped(.min) == "-9,223,372,036,854,775,808")
  }

  @Test("columns are aligned by what they take on the screen, and cells cannot break out")
  func table() {
    var table = TextTable([.init("RUN", shrinks: true), .init("SIZE", .right), .init("STATE")])
    #expect(table.isEmpty)
    table.add(["a", "1 B", "queued"])
    table.add(["日本", "12 kB", "failed", "too much"])
    table.add(["two\nlines\u{1b}[2J"])
    #expect(
      table.lines() == [
        "RUN                      SIZE  STATE", "a                         1 B  queued", "日本                    12 kB  failed",
        "two\\u{a}lines\\u{1b}[2J",
      ])
    let narrow = table.lines(width: 30)
    #expect(narrow.allSatisfy { displayWidth($0) <= 30 })
    #expect(narrow[3].contains("…"))
    // Nothing that may give way is left: the line is longer rather than empty.
    #expect(table.lines(width: 3)[1].contains("queued"))
  }

  @Test("long texts keep both ends")
  func shortening() {
    #expect(shortened("abc", to: 3) == "abc")
    let path = shortened("CYTOMETER_01/PROJ-0042/Runs/Run_2026/fcs/data.fcs", to: 20)
    #expect(displayWidth(path) == 20 && path.hasPrefix("CYT") && path.hasSuffix("data.fcs"))
    #expect(shortened("abcdef", to: 0) == "" && shortened("abcdef", to: 1) == "…" && shortened("日本語日本語", to: 5).count <= 3)
    #expect(displayWidth("e\u{301}") == 1 && displayWidth("🔬") == 2 && displayWidth("") == 0)
  }

  private func reading(_ done: UInt64, of total: UInt64, rate: Double? = 10_000_000, current: String = "Run_1/data.fcs")
    -> ProgressBar.Reading
  {
    ProgressBar.Reading(bytesDone: done, bytesTotal: total, filesDone: 3, filesTotal: 12, rate: rate, current: current)
  }

  @Test("the bar fits any width and never reaches 100 before the end")
  func bar() {
    let wide = ProgressBar(width: 120).line(reading(42_000_000, of: 100_000_000))
    #expect(wide == "██████████░░░░░░░░░░░░░░  42 %  42.0 MB/100 MB  10.0 MB/s  0:06 left  3/12 files  Run_1/data.fcs")
    #expect(ProgressBar(width: 120).line(reading(99_999_999, of: 100_000_000)).contains(" 99 %"))
    #expect(ProgressBar(width: 120).line(reading(100_000_000, of: 100_000_000)).contains("100 %"))
    let ascii = ProgressBar(width: 80, unicode: false).line(
      reading(50, of: 100, current: "日本/\u{202e}x" + String(repeating: "y", count: 90)))
    #expect(ascii.allSatisfy(\.isASCII) && ascii.hasPrefix("[#######-------]  50 %"))
    for width in 0...200 {
      for unicode in [true, false] {
        for current in ["", "a\r\nb\u{1b}[31m", String(repeating: "日", count: 100)] {
          let line = ProgressBar(width: width, unicode: unicode).line(reading(12_345_678, of: 98_765_432, current: current))
          #expect(displayWidth(line) <= max(0, width - 1))
          #expect(!line.unicodeScalars.contains { $0.value < 0x20 })
        }
      }
    }
  }

  @Test("a server's or a file's numbers cannot break the bar")
  func oddNumbers() {
    let odd = [
      ProgressBar.Reading(bytesDone: .max, bytesTotal: 1, filesDone: .max, filesTotal: 0, rate: .infinity, current: ""),
      ProgressBar.Reading(bytesDone: 0, bytesTotal: .max, filesDone: -1, filesTotal: .max, rate: .nan, current: ""),
      ProgressBar.Reading(bytesDone: 0, bytesTotal: .max, filesDone: 0, filesTotal: 1, rate: 1e-300, current: ""),
      ProgressBar.Reading(bytesDone: 0, bytesTotal: 0, filesDone: 1, filesTotal: 4, rate: nil, current: ""),
      ProgressBar.Reading(bytesDone: 0, bytesTotal: 0, filesDone: 0, filesTotal: 0, rate: nil, current: ""),
    ]
    let lines = odd.map { ProgressBar(width: 70).line($0) }
    #expect(lines[0].contains("100 %") && lines[1].contains("  0 %") && lines[3].contains(" 25 %") && lines[4].contains("100 %"))
  }

  @Test("the rate is that of the last seconds, and starts anew when the count goes back")
  func rate() {
    var meter = RateMeter(windowSeconds: 5)
    #expect(meter.rate == nil)
    for second in 0...20 { meter.record(UInt64(second) * 1000, at: UInt64(second) * 1_000_000_000) }
    #expect(meter.rate == 1000)
    // A pause shows within the window.
    for second in 21...26 { meter.record(20_000, at: UInt64(second) * 1_000_000_000) }
    #expect(meter.rate == 0)
    meter.record(5, at: 27_000_000_000)
    #expect(meter.rate == nil)
    meter.record(1005, at: 28_000_000_000)
    #expect(meter.rate == 1000)
  }

  @Test("a descriptor that is no terminal has no width and wants no colour")
  func terminal() {
    let none = Terminal(descriptor: -1, environment: ["LANG": "de_DE.UTF-8", "TERM": "xterm"])
    #expect(none == Terminal(width: nil, unicode: true, colour: false))
    #expect(!Terminal(descriptor: -1, environment: ["LC_ALL": "C", "LANG": "de_DE.UTF-8"]).unicode)
    #expect(!Terminal(descriptor: -1, environment: [:]).unicode)
  }
}
