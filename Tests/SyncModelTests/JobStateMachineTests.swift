import SyncModel
import Testing

/// Section 3 of the contract, pair by pair.
@Suite struct JobStateMachineTests {
  struct Pair: Hashable, CustomTestStringConvertible {
    let state: JobState
    let event: JobEvent
    var testDescription: String { "\(state.rawValue) on \(event)" }
  }

  /// Every transition there is, for the first and for a later digest mismatch.
  static let contract: [Pair: (first: JobState, later: JobState)] = [
    Pair(state: .queued, event: .claimed): (.running, .running),
    Pair(state: .running, event: .sent): (.awaitingVerify, .awaitingVerify),
    Pair(state: .running, event: .interrupted): (.queued, .queued),
    Pair(state: .running, event: .gaveUp): (.failed, .failed),
    Pair(state: .awaitingVerify, event: .proven): (.verified, .verified),
    Pair(state: .awaitingVerify, event: .digestMismatch): (.queued, .failed),
    Pair(state: .awaitingVerify, event: .gaveUp): (.failed, .failed),
    Pair(state: .verified, event: .remoteCorrupted): (.failed, .failed),
    Pair(state: .verified, event: .becameEligible): (.cleanupEligible, .cleanupEligible),
    Pair(state: .cleanupEligible, event: .remoteCorrupted): (.failed, .failed),
    Pair(state: .cleanupEligible, event: .removedLocally): (.cleaned, .cleaned),
    Pair(state: .failed, event: .retried): (.queued, .queued),
  ]

  static let pairs = JobState.allCases.flatMap { state in JobEvent.allCases.map { Pair(state: state, event: $0) } }

  @Test func everyStateAndEventIsTried() {
    #expect(Self.pairs.count == 70)
    #expect(Set(Self.contract.keys).isSubset(of: Self.pairs))
  }

  @Test(arguments: pairs) func onlyTheContractsTransitionsExist(_ pair: Pair) throws {
    for mismatches in [0, 1, 2, Int.max] {
      if let expected = Self.contract[pair] {
        let next = try JobStateMachine.next(pair.state, on: pair.event, mismatches: mismatches)
        #expect(next == (mismatches == 0 ? expected.first : expected.later))
      } else {
        #expect {
          try JobStateMachine.next(pair.state, on: pair.event, mismatches: mismatches)
        } throws: { error in
          let illegal = error as? JobStateMachine.Illegal
          return illegal?.state == pair.state && illegal?.event == pair.event
        }
      }
    }
  }

  @Test func namesOnTheWireAreThoseOfTheContract() {
    #expect(
      JobState.allCases.map(\.rawValue) == ["queued", "running", "awaiting_verify", "verified", "cleanup_eligible", "cleaned", "failed"])
    #expect(JobState.allCases.filter(\.isActive) == [.queued, .running, .awaitingVerify])
  }

  @Test func anIllegalTransitionNamesStateAndEvent() {
    #expect {
      try JobStateMachine.next(.cleaned, on: .retried)
    } throws: { "\($0)" == "a job that is cleaned cannot take the event retried" }
  }
}
