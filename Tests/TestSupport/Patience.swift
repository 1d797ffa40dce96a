import Foundation

/// How much longer than usual a test may wait: a sanitizer makes what it watches slower by about a factor of ten, and what is bounded here is
/// processor time as often as waiting.
public enum Patience {
  /// `thread` or `address` where the tests are built with one; `scripts/test` says so.
  public static let sanitizer = ProcessInfo.processInfo.environment["NASSYNC_TEST_SANITIZER"]
  /// 1, or 5 under a sanitizer.
  public static let factor: Double = sanitizer == nil ? 1 : 5
  /// How much more memory a program may take: 1, or what the sanitizers' shadows come to by their own manuals.
  public static let memory = sanitizer == nil ? 1 : 10
}
