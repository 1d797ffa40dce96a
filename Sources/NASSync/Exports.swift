// What an embedder sees is declared once, in the room it belongs to, and handed on from here: `import NASSync` is enough.
// See Specs/decisions/0005.
@_exported import Cleanup
@_exported import Configuration
@_exported import Gate
@_exported import SyncModel
@_exported import Transport
