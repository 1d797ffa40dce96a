import SyncModel

/// One thing that a verification expects on the NAS.
package struct ExpectedEntry: Hashable, Sendable {
  /// What must be there.
  package enum Content: Hashable, Sendable {
    case file(ContentDigest)
    case folder
    case symlink(target: [UInt8])
  }
  /// Relative to the run.
  package let path: RelativePath
  package let content: Content
  /// Bytes of a file, where that is known: no more are read back.
  package let size: UInt64?

  package init(path: RelativePath, content: Content, size: UInt64? = nil) {
    self.path = path
    self.content = content
    self.size = size
  }
}

/// One difference between what was expected and what the NAS holds.
package struct Mismatch: Hashable, Sendable {
  package enum Problem: Hashable, Sendable {
    /// Nothing has that name.
    case missing
    /// Something of that name is there that nothing accounts for.
    case extra
    /// The content differs.
    case differs(expected: ContentDigest, found: ContentDigest)
    /// Another kind of thing (a folder, a link) has the name, or a link points elsewhere.
    case otherKind(String)
    /// It is there and could not be read.
    case unreadable(String)
  }
  package let path: RelativePath
  package let problem: Problem

  package init(path: RelativePath, problem: Problem) {
    self.path = path
    self.problem = problem
  }

  /// One sentence without the path.
  package var sentence: String {
    switch problem {
    case .missing: "missing on the NAS"
    case .extra: "on the NAS, but not in the manifest"
    case .differs(let expected, let found): "differs: expected \(expected.hex.prefix(16))…, the NAS holds \(found.hex.prefix(16))…"
    case .otherKind(let what): what
    case .unreadable(let why): "could not be read back: \(why)"
    }
  }
}

/// Proof that the NAS holds exactly what was expected: only a verification that found no difference makes one, and after a restart it is
/// earned again.
package struct VerifiedReceipt: Sendable {
  /// What was proven of one file.
  package struct Proof: Hashable, Sendable {
    package let digest: ContentDigest
    package let evidence: Evidence

    package init(digest: ContentDigest, evidence: Evidence) {
      self.digest = digest
      self.evidence = evidence
    }
  }
  /// Every file, by its path in the run.
  package let proofs: [RelativePath: Proof]
  /// The weakest evidence among them: `server` before `store` before `readback`. Nil where the run has no file.
  package let evidence: Evidence?

  init(proofs: [RelativePath: Proof]) {
    self.proofs = proofs
    let kinds = Set(proofs.values.map(\.evidence))
    evidence = [Evidence.server, .store, .readback].first { kinds.contains($0) }
  }
}

/// What a verification found.
package enum VerificationOutcome: Sendable {
  case proven(VerifiedReceipt)
  /// At least one difference, sorted by path.
  case differs([Mismatch])
}
