/** A lint rule: imports of Node come first, then packages, then other folders, then this one. */

const kinds = ['node:', 'a package', 'another folder', 'this folder']

/**
 * @param {string} source
 * @returns {number} index in `kinds`
 */
function kindOf(source) {
  if (source.startsWith('node:')) return 0
  if (source.startsWith('../')) return 2
  return source.startsWith('./') ? 3 : 1
}

/** @type {import('eslint').Rule.RuleModule} */
export const importOrder = {
  meta: { type: 'layout', schema: [] },
  create(context) {
    let last = 0
    return {
      ImportDeclaration(node) {
        const kind = kindOf(String(node.source.value))
        if (kind < last) {
          context.report({ node, message: `import of ${kinds[kind]} after one of ${kinds[last]}` })
        }
        last = Math.max(last, kind)
      },
    }
  },
}
