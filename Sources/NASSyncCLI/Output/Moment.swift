import Foundation
import Glibc

/// Points in time for people and for logs.
enum Moment {
  /// `2026-10-18 11:14:22`, in the workstation's time zone: for tables and sentences.
  static func local(_ date: Date) -> String { text(date, "%Y-%m-%d %H:%M:%S") { localtime_r($0, $1) } }

  /// `2026-10-18T09:14:22Z`: for logs, which are compared with those of other machines.
  static func log(_ date: Date) -> String { text(date, "%Y-%m-%dT%H:%M:%SZ") { gmtime_r($0, $1) } }

  private static func text(
    _ date: Date, _ format: String, _ split: (UnsafePointer<time_t>, UnsafeMutablePointer<tm>) -> UnsafeMutablePointer<tm>?
  ) -> String {
    // Years 1 to 9999: what a damaged record says must not overflow.
    let seconds = min(max(date.timeIntervalSince1970, -62_135_596_800), 253_402_300_799)
    var whole = time_t(seconds.rounded(.down))
    var parts = tm()
    guard split(&whole, &parts) != nil else { return "?" }
    return String(unsafeUninitializedCapacity: 64) { buffer in
      buffer.withMemoryRebound(to: CChar.self) { strftime($0.baseAddress, $0.count, format, &parts) }
    }
  }
}
