import SyncModel
import Verification

/// Whether a run's local copy may go: every condition, met or not, from facts alone. Nothing is left out because something else is unmet.
package enum CleanupInterlocks {
  /// Seconds by which the two clocks may disagree before somebody must have set one.
  package static let clockTolerance: Double = 600

  /// All conditions in their order.
  package static func all(_ facts: CleanupFacts) -> [CleanupInterlock] {
    CleanupInterlock.Name.allCases.map { name in
      switch name {
      case .state: state(facts)
      case .newestJob: newestJob(facts)
      case .verifyPasses: verifyPasses(facts)
      case .age: age(facts)
      case .clock: clock(facts)
      case .nasReachable: nasReachable(facts)
      case .nasCopyProven: nasCopyProven(facts)
      case .nasManifestIntact: nasManifestIntact(facts)
      case .recordReadable: recordReadable(facts)
      case .gateOpen: gateOpen(facts)
      case .noRevocation: noRevocation(facts)
      case .localUnchanged: localUnchanged(facts)
      case .nothingMissing: nothingMissing(facts)
      case .nothingUnknown: nothingUnknown(facts)
      case .nothingBeingWritten: nothingBeingWritten(facts)
      }
    }
  }

  /// The proof to delete on; nil while a single condition is unmet.
  package static func permission(_ facts: CleanupFacts) -> VerifiedReceipt? {
    guard all(facts).allSatisfy(\.met), case .compared(_, _, let proof?) = facts.nas else { return nil }
    return proof
  }

  // MARK: - The job

  private static func state(_ facts: CleanupFacts) -> CleanupInterlock {
    let met = facts.state == .verified || facts.state == .cleanupEligible
    return CleanupInterlock(
      .state, met: met, "the job is \(facts.state.rawValue)" + (met ? "" : "; only a verified one can be cleaned"),
      remedy: facts.state.isActive ? .wait : .look)
  }

  private static func newestJob(_ facts: CleanupFacts) -> CleanupInterlock {
    CleanupInterlock(
      .newestJob, met: facts.newerJob == nil,
      facts.newerJob.map { "the run has a newer job, \($0)" } ?? "it is the run's newest job", remedy: .wait)
  }

  // MARK: - Times

  /// The verifications that are certainly at different times, in their order: a queue that counted two looks at one moment is not believed.
  package static func distinctPasses(_ passes: [CleanupFacts.Pass], spacing: Double, samples: [ClockReading]) -> [CleanupFacts.Pass] {
    var distinct: [CleanupFacts.Pass] = []
    for pass in passes {
      if let last = distinct.last {
        // Half of the spacing: whoever counted them read other clocks a moment earlier or later.
        let gap = TrustedTime.elapsed(from: last.reading, to: pass.reading, samples: samples)
        guard gap > 0, gap >= spacing / 2 else { continue }
      }
      distinct.append(pass)
    }
    return distinct
  }

  /// The verification that completed the required number: what the age counts from.
  package static func completing(_ facts: CleanupFacts) -> CleanupFacts.Pass? {
    let distinct = distinctPasses(facts.passes, spacing: facts.passSpacing, samples: facts.clockSamples)
    let index = max(1, facts.requiredPasses) - 1
    return distinct.indices.contains(index) ? distinct[index] : nil
  }

  /// Whether passes and age are met: what makes a verified run eligible.
  package static func isEligible(_ facts: CleanupFacts) -> Bool { verifyPasses(facts).met && age(facts).met }

  private static func verifyPasses(_ facts: CleanupFacts) -> CleanupInterlock {
    let count = distinctPasses(facts.passes, spacing: facts.passSpacing, samples: facts.clockSamples).count
    let required = max(1, facts.requiredPasses)
    return CleanupInterlock(
      .verifyPasses, met: completing(facts) != nil,
      required == 1 ? "\(count) of 1 verification" : "\(count) of \(required) verifications at different times", remedy: .wait)
  }

  private static func age(_ facts: CleanupFacts) -> CleanupInterlock {
    let wanted = "\(duration(facts.minimumAge)) are asked for"
    guard let pass = completing(facts) else {
      return CleanupInterlock(.age, met: false, "it begins with the last of the verifications that are asked for; \(wanted)", remedy: .wait)
    }
    let elapsed = TrustedTime.elapsed(from: pass.reading, to: facts.now, samples: facts.clockSamples)
    return CleanupInterlock(
      .age, met: elapsed >= facts.minimumAge,
      elapsed < 0
        ? "the clock says that the verification lies \(duration(-elapsed)) in the future; \(wanted)"
        : "\(duration(elapsed)) of witnessed time since then; \(wanted)", remedy: .wait)
  }

  private static func clock(_ facts: CleanupFacts) -> CleanupInterlock {
    guard let reference = facts.reference?.reading else {
      return CleanupInterlock(.clock, met: false, "there is no verification to compare the clocks with", remedy: .wait)
    }
    var jumps: [Double] = []
    if let jump = TrustedTime.jump(from: reference, to: facts.now) {
      jumps.append(jump)
    } else {
      // Across starts of the machine: each start by itself, as far as it was seen.
      for sample in facts.clockSamples {
        if sample.boot == reference.boot, let jump = TrustedTime.jump(from: reference, to: sample) { jumps.append(jump) }
        if sample.boot == facts.now.boot, let jump = TrustedTime.jump(from: sample, to: facts.now) { jumps.append(jump) }
      }
    }
    let worst = jumps.max { abs($0) < abs($1) } ?? 0
    let backwards = facts.now.wall < reference.wall
    guard abs(worst) <= clockTolerance, !backwards else {
      let what =
        abs(worst) > clockTolerance
        ? "the clock was set \(worst > 0 ? "forward" : "back") by \(duration(abs(worst))) since the last verification"
        : "the clock is \(duration(reference.wall - facts.now.wall)) before the last verification"
      return CleanupInterlock(.clock, met: false, what + "; the next one that counts begins anew", remedy: .wait)
    }
    let restarted = reference.boot == facts.now.boot ? "" : "; the machine was restarted, and only time that it ran counts"
    return CleanupInterlock(.clock, met: true, "the clock was not set since the last verification\(restarted)", remedy: .wait)
  }

  // MARK: - The NAS

  private static func nasReachable(_ facts: CleanupFacts) -> CleanupInterlock {
    switch facts.nas {
    case .unasked(let why): CleanupInterlock(.nasReachable, met: false, "the NAS was not asked: \(why)", remedy: .wait)
    case .unreachable(let why): CleanupInterlock(.nasReachable, met: false, "the NAS does not answer: \(why)", remedy: .wait)
    case .failed(let why): CleanupInterlock(.nasReachable, met: true, "the NAS answers, but: \(why)", remedy: .wait)
    case .compared: CleanupInterlock(.nasReachable, met: true, "the NAS answers", remedy: .wait)
    }
  }

  private static func nasCopyProven(_ facts: CleanupFacts) -> CleanupInterlock {
    func unmet(_ detail: String, _ remedy: CleanupInterlock.Remedy) -> CleanupInterlock {
      CleanupInterlock(.nasCopyProven, met: false, detail, remedy: remedy)
    }
    switch facts.nas {
    case .unasked, .unreachable: return unmet("not proven at this moment", .wait)
    case .failed(let why): return unmet("not proven at this moment: \(why)", .look)
    case .compared(let differences, let documents, let proof):
      guard differences.isEmpty else { return unmet("\(differences.count) differ there: \(some(differences))", .nas) }
      guard let proof else {
        // The files were equal, but what says so was not.
        return unmet(documents.isEmpty ? "no proof came of it" : "no proof without an intact manifest, receipt and record there", .nas)
      }
      guard !facts.expected.isEmpty || facts.local.intact + facts.local.removedBefore > 0 else {
        return unmet("there is nothing that could be proven", .look)
      }
      let unproven = facts.expected.filter { proof.proofs[$0.key]?.digest != $0.value }.keys.sorted()
      guard unproven.isEmpty else {
        return unmet("\(unproven.count) files of the queue have no proof: \(some(unproven))", .nas)
      }
      let how = proof.evidence.map { "evidence: \($0.rawValue)" } ?? "the run has no file"
      return CleanupInterlock(.nasCopyProven, met: true, "\(proof.proofs.count) files proven at this moment (\(how))", remedy: .nas)
    }
  }

  private static func nasManifestIntact(_ facts: CleanupFacts) -> CleanupInterlock {
    guard case .compared(_, let documents, _) = facts.nas else {
      return CleanupInterlock(.nasManifestIntact, met: false, "not seen at this moment", remedy: .wait)
    }
    return CleanupInterlock(
      .nasManifestIntact, met: documents.isEmpty,
      documents.isEmpty
        ? "manifest, receipt and record there are those that were published" : "not as they were published: \(some(documents))",
      remedy: .nas)
  }

  // MARK: - The gate

  private static func recordReadable(_ facts: CleanupFacts) -> CleanupInterlock {
    switch facts.record {
    case .readable(let entries):
      CleanupInterlock(.recordReadable, met: true, "the record is readable, \(entries.count) entries on overrides", remedy: .gate)
    case .absent: CleanupInterlock(.recordReadable, met: true, "the run has no record and was published without one", remedy: .gate)
    case .removedBefore: CleanupInterlock(.recordReadable, met: true, "this clean-up has removed the record before", remedy: .gate)
    case .vanished:
      CleanupInterlock(
        .recordReadable, met: false, "the run was published with a record, and there is none any more: what it forbids is not known",
        remedy: .gate)
    case .unreadable(let why): CleanupInterlock(.recordReadable, met: false, "the record cannot be read: \(why)", remedy: .gate)
    }
  }

  private static func gateOpen(_ facts: CleanupFacts) -> CleanupInterlock {
    switch facts.gate {
    case .unasked(let why): CleanupInterlock(.gateOpen, met: false, "the gate was not asked: \(why)", remedy: .gate)
    case .judged(let blocking):
      CleanupInterlock(
        .gateOpen, met: blocking.isEmpty,
        blocking.isEmpty ? "the gate lets the run through now" : "\(blocking.count) findings block the run: \(some(blocking))",
        remedy: .gate)
    }
  }

  private static func noRevocation(_ facts: CleanupFacts) -> CleanupInterlock {
    func unmet(_ detail: String) -> CleanupInterlock { CleanupInterlock(.noRevocation, met: false, detail, remedy: .gate) }
    let entries: [String?]
    switch facts.record {
    case .readable(let read): entries = read
    case .absent: entries = []
    case .removedBefore:
      return CleanupInterlock(.noRevocation, met: true, "none when this clean-up removed the record", remedy: .gate)
    case .vanished, .unreadable: return unmet("not known without the record")
    }
    guard let reference = facts.reference else { return unmet("there is no verification that the record could be compared with") }
    guard entries.count >= reference.ledgerLength else {
      return unmet("the record had \(reference.ledgerLength) entries on overrides when the run was verified, and has \(entries.count) now")
    }
    let since = entries.dropFirst(reference.ledgerLength).compactMap { $0 }
    guard since.isEmpty else { return unmet("taken back since the last verification: \(some(since.map { displayText($0) }))") }
    switch facts.overrides {
    case .unknown(let why): return unmet("which overrides let the run through is not known: \(why)")
    case .named(let used):
      let revoked = Set(entries.compactMap { $0 }.map { Array($0.utf8) })
      let gone = used.filter { revoked.contains(Array($0.utf8)) }
      guard gone.isEmpty else { return unmet("taken back, and the run was let through by it: \(some(gone.map { displayText($0) }))") }
      return CleanupInterlock(.noRevocation, met: true, "no override was taken back; \(used.count) let the run through", remedy: .gate)
    }
  }

  // MARK: - The local copy

  private static func local(
    _ name: CleanupInterlock.Name, _ facts: CleanupFacts, _ found: [String], good: String, bad: String,
    remedy: CleanupInterlock.Remedy = .look
  ) -> CleanupInterlock {
    if let why = facts.local.unreadable {
      return CleanupInterlock(name, met: false, "the run's folder cannot be looked at: \(why)", remedy: .look)
    }
    return CleanupInterlock(name, met: found.isEmpty, found.isEmpty ? good : "\(found.count) \(bad): \(some(found))", remedy: remedy)
  }

  private static func localUnchanged(_ facts: CleanupFacts) -> CleanupInterlock {
    local(
      .localUnchanged, facts, facts.local.changed.map { "\($0.path) (\($0.why))" },
      good: "\(facts.local.intact) files are exactly those that were verified", bad: "are not what was verified")
  }

  private static func nothingMissing(_ facts: CleanupFacts) -> CleanupInterlock {
    let before = facts.local.removedBefore
    return local(
      .nothingMissing, facts, facts.local.missing.map(\.description),
      good: "no file is gone" + (before > 0 ? " but \(before) that this clean-up removed before" : ""),
      bad: "gone, and not by this program")
  }

  private static func nothingUnknown(_ facts: CleanupFacts) -> CleanupInterlock {
    local(
      .nothingUnknown, facts, facts.local.unknown.map(\.description), good: "no file is there that was never sent",
      bad: "were never sent")
  }

  private static func nothingBeingWritten(_ facts: CleanupFacts) -> CleanupInterlock {
    local(
      .nothingBeingWritten, facts, facts.local.beingWritten.map(\.description), good: "no program has a file of the run open for writing",
      bad: "open for writing by another program", remedy: .wait)
  }

  // MARK: - Words

  private static func some(_ items: [some CustomStringConvertible]) -> String {
    items.prefix(3).map(\.description).joined(separator: ", ") + (items.count > 3 ? ", …" : "")
  }

  private static func duration(_ seconds: Double) -> String {
    guard seconds.isFinite else { return "no known time" }
    if seconds < 120 { return "\(Int(seconds)) s" }
    if seconds < 7_200 { return "\(Int(seconds / 60)) min" }
    let hours = (seconds / 3_600 * 10).rounded(.down) / 10
    if hours < 72 { return "\(hours == hours.rounded() ? "\(Int(hours))" : "\(hours)") h" }
    return "\(Int(min(seconds / 86_400, 1e9))) days"
  }
}
