import SyncModel

extension EquipmentDecoder {
  /// `bandwidth`; a profile without limits where the file has none.
  func bandwidth(_ parent: inout SettingsSection) -> BandwidthProfile {
    var section = parent.section("bandwidth")
    defer { section.close() }
    let before = report.problems.count
    let rate = section.rate("upload_mbps", zero: "0 sends in the windows of `schedule` only")
    let timeZone = ServiceDecoder.timeZone(&section)
    let windows = section.sections("schedule").map { window($0) }
    let profile = BandwidthProfile(uploadMbps: rate, windows: windows, timeZone: timeZone)
    // A contradiction between values that were misread says nothing.
    if report.problems.count == before, let problem = profile.problem { tell(problem, of: profile, section) }
    return profile
  }

  private func window(_ section: SettingsSection) -> BandwidthWindow {
    var section = section
    defer { section.close() }
    var days = Set(Weekday.allCases)
    if let given: [Weekday] = section.choices("days") {
      days = Set(given)
      if given.count != days.count { section.fail("days", "a day is given twice", hint: "name each day once") }
    }
    let from = time("from", &section, latest: 1439)
    let to = time("to", &section, latest: 1440)
    if !section.has("upload_mbps") {
      _ = section.requiredText("upload_mbps", "the rate in this window, in Mbit/s, or `unlimited`,")
    }
    let rate = section.has("upload_mbps") ? section.rate("upload_mbps", zero: "0 pauses") : nil
    return BandwidthWindow(days: days, fromMinute: from, toMinute: to, uploadMbps: rate)
  }

  private func time(_ key: String, _ section: inout SettingsSection, latest: Int) -> Int {
    let expected = "a time from 00:00 to \(latest == 1440 ? "24:00" : "23:59")"
    let text = section.requiredText(key, expected)
    guard !text.isEmpty else { return 0 }
    guard let minute = Self.minute(text), minute <= latest else {
      section.fail(key, "`\(text)` is no time of day; \(expected) was expected", hint: "write hours and minutes: \"08:00\"")
      return 0
    }
    return minute
  }

  /// Minutes after midnight of `HH:MM`.
  private static func minute(_ text: String) -> Int? {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count == 2, (1...2).contains(parts[0].utf8.count), parts[1].utf8.count == 2,
      parts.allSatisfy({ $0.utf8.allSatisfy { (0x30...0x39).contains($0) } }),
      let hour = Int(parts[0]), let minute = Int(parts[1]), minute < 60
    else { return nil }
    return hour * 60 + minute
  }

  private func tell(_ problem: BandwidthProfile.Problem, of profile: BandwidthProfile, _ section: SettingsSection) {
    let (place, message, hint) = problem.explained(in: profile)
    section.fail(place, message, hint: hint)
  }
}

extension BandwidthProfile.Problem {
  /// The key below `bandwidth`, what is wrong, and the next step.
  func explained(in profile: BandwidthProfile) -> (key: String, message: String, hint: String) {
    let limits = "from 0 to \(Int(BandwidthProfile.maximumMbps)) Mbit/s"
    switch self {
    case .rate: return ("upload_mbps", "the rate is not \(limits)", "choose one in that range, or leave it out for no limit")
    case .windowRate(let number): return ("schedule[\(number)].upload_mbps", "the rate is not \(limits)", "choose one in that range")
    case .emptyWindow(let number):
      return (
        "schedule[\(number)]", "the window is empty: it has no day, or starts and ends at the same time",
        "name its days, and for a whole day write from \"00:00\" to \"24:00\""
      )
    case .contradiction(let first, let second, let day):
      return (
        "schedule[\(second)]", "this window and schedule[\(first)] overlap on \(day.rawValue) and have different rates",
        "let one end where the other starts"
      )
    case .neverSends: return ("upload_mbps", "every rate is 0, so nothing would ever be sent", "give some window a rate above 0")
    }
  }
}
