// What can only be seen inside the page. Each function answers a list of problems.
(() => {
  // A table that is folded up has boxes, and is not visible.
  const visible = (element) => element.checkVisibility({ visibilityProperty: true });

  // A colour as [red, green, blue, alpha].
  const parsed = (text) => {
    const numbers = (text.match(/[\d.]+/g) || []).map(Number);
    return numbers.length < 3 ? [0, 0, 0, 0] : [...numbers.slice(0, 3), numbers[3] ?? 1];
  };
  const over = (top, bottom) => {
    const [red, green, blue] = [0, 1, 2].map((i) => top[i] * top[3] + bottom[i] * (1 - top[3]));
    return [red, green, blue, 1];
  };
  const luminance = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a);
    return (light + 0.05) / (dark + 0.05);
  };

  // What a box shows below its own text.
  const fill = (element) => {
    const style = getComputedStyle(element);
    if (element instanceof SVGGraphicsElement && element.tagName !== 'svg') {
      if (element.tagName === 'text' || style.fill === 'none') return [0, 0, 0, 0];
      const colour = parsed(style.fill);
      return [...colour.slice(0, 3), colour[3] * Number(style.fillOpacity)];
    }
    return parsed(style.backgroundColor);
  };
  const backdrop = (element, x, y) => {
    const stack = document.elementsFromPoint(x, y);
    const below = stack.slice(Math.max(0, stack.indexOf(element)));
    return below.reverse().reduce((colour, one) => over(fill(one), colour), [255, 255, 255, 1]);
  };

  const textElements = () => {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const found = new Set();
    while (walker.nextNode()) {
      const parent = walker.currentNode.parentElement;
      if (!walker.currentNode.data.trim() || !visible(parent)) continue;
      if (['title', 'desc', 'style', 'script'].includes(parent.tagName.toLowerCase())) continue;
      found.add(parent);
    }
    return [...found];
  };

  const name = (element) => `${element.tagName.toLowerCase()} "${element.textContent.trim().slice(0, 40)}"`;

  window.pageLaws = {
    overflow() {
      const root = document.documentElement;
      if (root.scrollWidth <= root.clientWidth) return [];
      const wide = [...document.body.querySelectorAll('*')].filter((element) =>
        !element.closest('.scroll') && element.getBoundingClientRect().right > root.clientWidth + 1);
      return [`the page is ${root.scrollWidth} wide in ${root.clientWidth}: ${wide.slice(0, 3).map(name)}`];
    },

    overlaps() {
      const problems = [];
      for (const svg of document.querySelectorAll('svg')) {
        if (!visible(svg)) continue;
        const whole = svg.getBoundingClientRect();
        const boxes = [...svg.querySelectorAll('text')].map((text) => [text, text.getBoundingClientRect()]);
        boxes.forEach(([text, box], index) => {
          if (box.left < whole.left - 1 || box.right > whole.right + 1
              || box.top < whole.top - 2 || box.bottom > whole.bottom + 2) {
            problems.push(`${name(text)} leaves its drawing`);
          }
          for (const [other, its] of boxes.slice(index + 1)) {
            const width = Math.min(box.right, its.right) - Math.max(box.left, its.left);
            const height = Math.min(box.bottom, its.bottom) - Math.max(box.top, its.top);
            // The box of a line of text has room above and below the letters.
            if (width > 0.5 && height > box.height * 0.3) {
              problems.push(`${name(text)} overlaps ${name(other)}`);
            }
          }
        });
      }
      return problems;
    },

    alternatives() {
      const problems = [];
      for (const svg of document.querySelectorAll('svg')) {
        const ids = (svg.getAttribute('aria-labelledby') || '').split(' ');
        const texts = ids.map((id) => document.getElementById(id)?.textContent.trim());
        if (svg.getAttribute('role') !== 'img' || texts.length !== 2 || texts.some((text) => !text)) {
          problems.push(`a drawing lacks a name or a description: ${texts}`);
        }
      }
      for (const figure of document.querySelectorAll('figure')) {
        if (!figure.querySelector('details table tbody tr')) problems.push(`${figure.id} has no table`);
        if (!figure.querySelector('svg')) problems.push(`${figure.id} has no drawing`);
      }
      const ids = [...document.querySelectorAll('[id]')].map((element) => element.id);
      const twice = ids.filter((id, index) => ids.indexOf(id) !== index);
      if (twice.length) problems.push(`used twice: ${twice}`);
      if (!document.documentElement.lang) problems.push('the page has no language');
      return problems;
    },

    contrasts() {
      return textElements().flatMap((element) => {
        element.scrollIntoView({ block: 'center', behavior: 'instant' });
        const box = element.getBoundingClientRect();
        const [x, y] = [box.left + Math.min(box.width / 2, 20), box.top + box.height / 2];
        if (x < 0 || y < 0 || x > innerWidth || y > innerHeight) return [];
        const style = getComputedStyle(element);
        const below = backdrop(element, x, y);
        const colour = over(parsed(element instanceof SVGElement ? style.fill : style.color), below);
        const found = contrast(colour, below);
        return found >= 4.5 ? [] : [`${name(element)} has a contrast of ${found.toFixed(2)}`];
      });
    },

    focusable() {
      return [...document.querySelectorAll('a[href], summary, button, input, [tabindex="0"]')]
        .filter(visible).length;
    },
  };
})();
