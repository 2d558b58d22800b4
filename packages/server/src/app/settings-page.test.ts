import { expect, it } from 'vitest';
import { SETTINGS, type SettingRow } from './settings-table.ts';

const HEAD = `# Settings

Environment variables, else a \`.env\` file in the working directory (the environment wins; an empty value is absent).
All are checked at every start; mistakes are told together, one line each, and the exit code is 78.
This page is the table in \`packages/server/src/app/settings-table.ts\`; after a change there run
\`npx vitest run -u packages/server/src/app/settings-page.test.ts\`.

| name | default | may be | meaning |
|---|---|---|---|
`;

const cell = (text: string): string => text.replaceAll('|', '\\|');
const line = ({ name, shown, type, prose }: SettingRow<unknown>): string =>
  `| \`${name}\` | ${cell(shown)} | ${cell(type.expects)} | ${cell(prose)} |\n`;

it('docs/settings.md lists exactly the rows of the table', async () => {
  const page =
    HEAD +
    Object.values(SETTINGS)
      .map((row: SettingRow<unknown>) => line(row))
      .join('');
  await expect(page).toMatchFileSnapshot('../../../../docs/settings.md');
});
