/// What a shell on the far side says of its surroundings. The answers only make candidates: what is believed is proved by a digest.
struct ShellSurvey: Sendable {
  /// Home and current folder.
  private(set) var homes: [[UInt8]] = []
  private(set) var mountPoints: [[UInt8]] = []
  private(set) var programs: Set<String> = []
  private(set) var isLinux = false
  /// 1 where it is not said.
  private(set) var processors = 1

  /// Home, processors, programs, mount points.
  static let command = RemoteCommand(
    script: """
      printf "home %s\\n" "$HOME"; printf "home %s\\n" "$(pwd -P)"; printf "cpus %s\\n" "$(nproc 2>/dev/null)"; for p in xargs head openssl sha256sum shasum sha256 sync tar; do if command -v \
      "$p" >/dev/null 2>&1; then printf "has %s\\n" "$p"; fi; done; printf "system %s\\n" "$(uname -s)"; if [ -r /proc/mounts ]; then while read -r d m t; do printf "mount %s\\n" \
      "$m"; done </proc/mounts; fi; true
      """)

  /// Folders of the top three levels, without those of the kernel.
  static let folders = RemoteCommand(
    script: """
      for a in /*/; do case "$a" in /proc/|/sys/|/dev/|/run/) continue;; esac; printf "%s\\n" "$a"; for b in "$a"*/ "$a"*/*/; do printf "%s\\n" \
      "$b"; done; done | head -n 20000; true
      """)

  /// - Parameter lines: What the command printed between the marks.
  init(_ lines: [ArraySlice<UInt8>]) {
    for line in lines {
      guard let space = line.firstIndex(of: UInt8(ascii: " ")) else { continue }
      let value = Array(line[(space + 1)...])
      switch String(decoding: line[..<space], as: UTF8.self) {
      case "home" where value.first == UInt8(ascii: "/") && !homes.contains(value): homes.append(value)
      case "cpus": processors = Int(String(decoding: value, as: UTF8.self)).flatMap { $0 > 0 ? $0 : nil } ?? 1
      case "has": programs.insert(String(decoding: value, as: UTF8.self))
      case "system": isLinux = value == Array("Linux".utf8)
      case "mount": mountPoints.append(ShellSurvey.unescape(value))
      default: break
      }
    }
  }

  /// `\040` and the like, as `/proc/mounts` writes them.
  private static func unescape(_ bytes: [UInt8]) -> [UInt8] {
    var result: [UInt8] = []
    var rest = bytes[...]
    while let byte = rest.popFirst() {
      let digits = rest.prefix(3)
      if byte == UInt8(ascii: "\\"), digits.count == 3, digits.allSatisfy({ (0x30...0x37).contains($0) }) {
        result.append(digits.reduce(0) { $0 &* 8 &+ ($1 - 0x30) })
        rest = rest.dropFirst(3)
      } else {
        result.append(byte)
      }
    }
    return result
  }

  /// Where the shell may see the SFTP root folder, the likeliest first: as it is, below home, below each mount point. And the same with
  /// leading folders of the root dropped, as where SFTP shows `/home/lab` and the disk has `/volume1/homes/user/lab`.
  func candidates(for root: [UInt8]) -> [[UInt8]] {
    ShellSurvey.combine([[]] + homes + mountPoints, ShellSurvey.endings(of: root))
  }

  /// The same for folders that were listed: only with the whole root, and without its first folder.
  static func candidates(for root: [UInt8], below folders: [ArraySlice<UInt8>]) -> [[UInt8]] {
    combine(folders.map { Array($0) }, Array(endings(of: root).prefix(2)))
  }

  /// `/a/b`, `/b` and the empty path of `/a/b`.
  private static func endings(of root: [UInt8]) -> [[UInt8]] {
    let segments = root.split(separator: UInt8(ascii: "/"))
    return (0...segments.count).map { dropped in segments.dropFirst(dropped).flatMap { [UInt8(ascii: "/")] + $0 } }
  }

  private static func combine(_ bases: [[UInt8]], _ endings: [[UInt8]]) -> [[UInt8]] {
    var seen: Set<[UInt8]> = []
    var result: [[UInt8]] = []
    for ending in endings {
      for base in bases where base.isEmpty || base.first == UInt8(ascii: "/") {
        var trimmed = base
        while trimmed.last == UInt8(ascii: "/") { trimmed.removeLast() }
        let path = trimmed + ending
        if !path.contains(0), seen.insert(path).inserted { result.append(path) }
      }
    }
    return result
  }
}
