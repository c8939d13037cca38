// The pages of edge and cloud in a real Chromium: node page_test.mjs EDGE_URL CLOUD_URL SCREENSHOT_FOLDER [TOKEN]
import assert from "node:assert/strict";
import {after, test} from "node:test";
import {chromium} from "playwright-core";

const [edge, cloud, folder, token, context, question] = process.argv.slice(2);
const PATIENCE = {timeout: 120_000};

const browser = await chromium.launch({executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"]});

// A page whose console errors, and requests to any other place, fail the test.
async function open(url, colorScheme, viewport = {width: 1280, height: 860}) {
  const page = await browser.newPage({colorScheme, viewport});
  const problems = [];
  page.on("console", (message) => message.type() === "error" && !message.text().includes("401") && problems.push(message.text()));
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("request", (r) => r.url().startsWith(url) || problems.push(`asked for ${r.url()}`));
  await page.goto(url);
  return {page, problems};
}

async function giveToken(page) {
  await page.getByLabel("This server asks for its access token").fill(token);
  await page.getByRole("button", {name: "Use this token"}).click();
}

async function shoot(page, name) {
  await page.screenshot({path: `${folder}/${name}.png`});
}

test("a question is answered, and the page shows where each layer came from", async () => {
  const {page, problems} = await open(edge, "light");
  await giveToken(page);
  const choice = page.getByLabel("Context", {exact: true});
  await choice.locator("option").nth(1).waitFor({state: "attached", ...PATIENCE});
  await choice.selectOption({label: context});
  await shoot(page, "edge-start");
  await page.getByLabel("Question").fill(question);
  await page.keyboard.press("Enter");
  await page.getByText("First token").waitFor(PATIENCE);
  await page.locator("#phases .strip").waitFor(PATIENCE);
  assert.ok((await page.locator(".turn.assistant .said").textContent()).length > 0);
  const layers = await page.locator("#layers").getAttribute("aria-label");
  assert.match(layers, /^(\d+) of \1 layers are here: .*(cloud|compute)/);
  assert.match(await page.locator("#codec").textContent(), /^Codec /);
  await page.getByText(`held`, {exact: true}).first().waitFor(PATIENCE);
  await shoot(page, "edge-light");
  await page.getByRole("button", {name: "Theme: auto"}).click();
  await page.getByRole("button", {name: "Theme: light"}).click();
  assert.equal(await page.locator("html").getAttribute("data-theme"), "dark");
  await page.getByLabel("Question").fill("And in one word?");
  await page.keyboard.press("Enter");
  await page.locator(".turn.assistant:not(.busy)").nth(1).waitFor(PATIENCE);
  assert.match(await page.locator("#layers").getAttribute("aria-label"), /in memory already/);
  await shoot(page, "edge-dark");
  assert.deepEqual(problems, []);
  await page.close();
});

test("a name that looks like markup is text", async () => {
  const {page, problems} = await open(edge, "light");
  await giveToken(page);
  await page.locator("#contexts", {hasText: "<img src=x onerror=alert(1)>"}).waitFor(PATIENCE);
  assert.equal(await page.locator("#contexts img").count(), 0);
  assert.deepEqual(problems, []);
  await page.close();
});

test("everything can be reached by the keyboard", async () => {
  const {page} = await open(edge, "light");
  await giveToken(page);
  await page.locator("#contexts li").first().waitFor(PATIENCE);
  await page.evaluate(() => document.activeElement.blur());
  const reached = new Set();
  for (let i = 0; i < 12; ++i) {
    await page.keyboard.press("Tab");
    reached.add(await page.evaluate(() => document.activeElement.id));
  }
  for (const id of ["theme", "context", "new", "question", "send"]) assert.ok(reached.has(id), `Tab does not reach ${id}`);
  await page.close();
});

test("a narrow window shows the same, without scrolling sideways", async () => {
  const {page} = await open(edge, "dark", {width: 390, height: 844});
  await giveToken(page);
  await page.locator("#contexts li").first().waitFor(PATIENCE);
  const width = await page.evaluate(() => document.documentElement.scrollWidth);
  await shoot(page, "edge-narrow");
  assert.ok(width <= 390, `${width} pixels wide`);
  await page.close();
});

test("the cloud's page lists contexts, packs and edges", async () => {
  for (const scheme of ["light", "dark"]) {
    const {page, problems} = await open(cloud, scheme);
    await page.locator("#packs tr", {hasText: context}).first().waitFor(PATIENCE);
    await page.locator("#edges .name").first().waitFor(PATIENCE);
    assert.ok((await page.locator("#contexts li").count()) >= 2);
    await shoot(page, `cloud-${scheme}`);
    assert.deepEqual(problems, []);
    await page.close();
  }
});

after(() => browser.close());
