'use strict';
// Reads stats.json every two seconds and fills in what it says. Rates are the
// growth of counts between two readings, by the tracker's own clock.
(function () {
  const PERIOD_MILLISECONDS = 2000;
  const status = document.getElementById('status');
  let last = null;
  let updates = 0;

  function at(stats, path) {
    let value = stats;
    for (const key of path.split('/').slice(1)) {
      value = value === null || value === undefined ? undefined : value[key];
    }
    return value;
  }

  function total(stats, paths) {
    let sum = 0;
    for (const path of paths.split(' ')) {
      sum += Number(at(stats, path)) || 0;
    }
    return sum;
  }

  function grouped(number) {
    return String(number).replace(/\B(?=(\d{3})+$)/g, '\u202f');
  }

  function bytes(number) {
    const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
    let unit = 0;
    while (number >= 1024 && unit < units.length - 1) {
      number /= 1024;
      unit += 1;
    }
    return (unit === 0 ? String(number) : number.toFixed(1)) + '\u202f' + units[unit];
  }

  function duration(seconds) {
    const whole = Math.floor(seconds);
    const parts = [[Math.floor(whole / 86400), 'd'], [Math.floor(whole / 3600) % 24, 'h'],
      [Math.floor(whole / 60) % 60, 'min'], [whole % 60, 's']];
    const first = parts.findIndex((part) => part[0] > 0);
    const shown = first < 0 ? parts.slice(3) : parts.slice(first, first + 2);
    return shown.map((part) => part[0] + '\u202f' + part[1]).join(' ');
  }

  const FORMS = {
    count: grouped,
    bytes: bytes,
    duration: duration,
    answers: (yes) => (yes ? 'yes' : 'no'),
    text: String,
  };

  function rate(now, paths) {
    const seconds = last === null ? 0 : now.uptime_seconds - last.uptime_seconds;
    const growth = last === null ? 0 : total(now, paths) - total(last, paths);
    // After a restart of the tracker both may be negative.
    if (seconds <= 0 || growth < 0) {
      return '–';
    }
    const each = growth / seconds;
    return each >= 100 || each === 0 ? grouped(Math.round(each)) : each.toFixed(1);
  }

  function say(state, text) {
    // Only changes are said, so that a screen reader is not told every time.
    if (status.dataset.state !== state) {
      status.dataset.state = state;
      status.textContent = text;
    }
  }

  function fill(stats) {
    for (const cell of document.querySelectorAll('[data-at]')) {
      const value = at(stats, cell.dataset.at);
      const missing = value === null || value === undefined;
      cell.textContent = missing ? '–' : FORMS[cell.dataset.as](value);
    }
    for (const cell of document.querySelectorAll('[data-rate]')) {
      cell.textContent = rate(stats, cell.dataset.rate);
    }
    last = stats;
    updates += 1;
    status.dataset.updates = String(updates);
  }

  async function update() {
    try {
      const response = await fetch('stats.json', { cache: 'no-store' });
      if (!response.ok) {
        throw new Error('status ' + response.status);
      }
      fill(await response.json());
      say('live', 'Live: read anew every two seconds.');
    } catch (error) {
      last = null;
      say('lost', 'The tracker does not answer; these numbers are old.');
    }
    setTimeout(update, PERIOD_MILLISECONDS);
  }

  update();
})();
