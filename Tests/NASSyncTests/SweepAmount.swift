import Foundation

/// At how many moments of a run the death sweeps let the process die: few in the ordinary test run, which takes them from all over the run, and
/// as many as `NASSYNC_SWEEP_DEATHS` says where somebody asks for more.
enum SweepAmount {
  /// What was asked for; nil in the ordinary run.
  static let asked = ProcessInfo.processInfo.environment["NASSYNC_SWEEP_DEATHS"].flatMap { Int($0) }

  /// Evenly spread.
  /// - Parameter usual: How many in the ordinary run.
  static func chosen<Moment>(_ all: [Moment], usual: Int) -> [Moment] {
    let count = min(asked ?? usual, all.count)
    return (0..<count).map { all[$0 * all.count / count] }
  }
}
