import SyncModel

/// Asks several validators one after another and puts together what they say. None of them can take back what another found.
package struct CompositeValidator: RunValidator {
  private let validators: [any RunValidator]

  package init(_ validators: [any RunValidator]) { self.validators = validators }

  /// All findings of all. One that throws is a finding, and the others are asked all the same.
  package func findings(for run: RunSnapshot, at location: RunLocation, context: GateContext) async -> [Finding] {
    var all: [Finding] = []
    for validator in validators {
      do {
        all += try await validator.findings(for: run, at: location, context: context)
      } catch {
        all.append(PreSyncGate.unfinished(error))
      }
    }
    return all
  }
}
