"""pyverbs as a program sees it, on simulated devices: every module of the package, by pyverbs' names.

A program's `import pyverbs.device` is `simmig.verbs.pyverbs.device` once `finder.install` has run: that is what
`simmig pyverbs -- PROGRAM` and `launch.simulated` do. Objects are handles on those of
`simmig.verbs.sim`, with pyverbs' own ways: they close when nobody refers to them any more, and take no value that
C would not hold. Any number of threads and processes may share a world: `server` has it, `remote` asks for it.
"""
